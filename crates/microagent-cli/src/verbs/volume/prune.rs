//! `microagent volume prune`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::quantity;
use microagent::VolumesPruned;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent volume prune --dry-run
  microagent volume prune";

/// Remove every volume that no workspace has or declares
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let pruned = context.client()?.prune_volumes(self.dry_run)?;
        context.show(&Shown { dry_run: self.dry_run, pruned })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Shown {
    dry_run: bool,
    #[serde(flatten)]
    pruned: VolumesPruned,
}

impl Text for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Shown { dry_run, pruned: VolumesPruned { removed, bytes } } = self;
        let (done, freed) = if *dry_run { ("Would remove", "Would free") } else { ("Removed", "Freed") };
        removed.iter().try_for_each(|name| writeln!(out, "{done}: {name}"))?;
        writeln!(out, "{freed}: {}", quantity::bytes(*bytes))
    }
}
