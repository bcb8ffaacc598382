//! `microagent image prune`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::quantity;
use microagent::image::Pruned;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent image prune --dry-run
  microagent image prune --all";

/// Free the space of images that nothing needs
///
/// Removes images without a name, unfinished downloads and other leftovers. What a workspace needs always stays.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Remove every image no workspace needs, whether it has a name or not
    #[arg(long, short)]
    all: bool,
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let pruned = context.client()?.prune_images(self.all, self.dry_run)?;
        context.show(&Shown { dry_run: self.dry_run, pruned })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Shown {
    dry_run: bool,
    #[serde(flatten)]
    pruned: Pruned,
}

impl Text for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Shown { dry_run, pruned: Pruned { untagged, deleted, bytes } } = self;
        untagged.iter().try_for_each(|name| writeln!(out, "Untagged: {}", name.familiar()))?;
        deleted.iter().try_for_each(|digest| writeln!(out, "Deleted: {digest}"))?;
        let freed = if *dry_run { "Would free" } else { "Freed" };
        writeln!(out, "{freed}: {}", quantity::bytes(*bytes))
    }
}
