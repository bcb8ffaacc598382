//! `microagent snapshot delete`

use super::target::Target;
use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::verbs::transition::agree;
use microagent::SnapshotRef;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent snapshot delete research before-upgrade
  microagent snapshot delete research:before-upgrade --yes";

/// Delete a snapshot
///
/// What went on from it stays. What other snapshots need of it stays on the disk until they go.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    yes: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let reference = self.target.reference()?;
        if !self.yes {
            agree(context.format(), "snapshot delete", &format!("Delete snapshot `{reference}`?"))?;
        }
        context.client()?.delete_snapshot(&reference)?;
        context.show(&Deleted { deleted: reference })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Deleted {
    deleted: SnapshotRef,
}

impl Text for Deleted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Deleted: {}", self.deleted)
    }
}
