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
        let client = context.client()?;
        // Nobody is asked about what is not there.
        let is_there = client.snapshots(&reference.workspace)?.iter().any(|snapshot| snapshot.tag == reference.tag);
        if !self.yes && is_there {
            agree(context.format(), "snapshot delete", &format!("Delete snapshot `{reference}`?"))?;
        }
        client.delete_snapshot(&reference)?;
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
