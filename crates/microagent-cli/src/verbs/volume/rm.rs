//! `microagent volume rm`

use super::{Action, DONE, volume_name};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use clap_complete::ArgValueCandidates;
use microagent::VolumeName;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent volume rm data
  microagent volume rm data cache --force";

/// Remove volumes and what is on them
///
/// A volume that a workspace has is never removed, one that a stopped workspace declares only with `--force`. The first that cannot be
/// removed ends the verb.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Names of the volumes
    #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(completion::volumes))]
    names: Vec<String>,
    /// Also those that stopped workspaces declare; they will not start without them
    #[arg(long, short)]
    force: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let names = self.names.iter().map(|name| volume_name(name)).collect::<Result<Vec<VolumeName>, Error>>()?;
        let client = context.client()?;
        for name in &names {
            client.remove_volume(name, self.force)?;
        }
        context.show(&Removed { removed: names })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<VolumeName>,
}

impl Text for Removed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.removed.iter().try_for_each(|name| writeln!(out, "Removed: {name}"))
    }
}
