//! `microagent snapshot create`

use super::target::reference;
use super::{Action, DONE, kind};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use crate::signals::Signals;
use clap_complete::ArgValueCandidates;
use microagent::{SnapshotOptions, SnapshotRef, SnapshotReport};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent snapshot create research
  microagent snapshot create research before-upgrade --comment 'all tests pass'
  microagent --json snapshot create research --tag nightly";

/// Take a snapshot of a workspace
///
/// Of one that runs or is paused, its memory, its processes and its own disks; it stands still for a moment and goes on. Of one at rest,
/// its disks. Secrets are removed from memory first and given back after.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the workspace, or workspace and tag as `NAME:TAG`
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// What the snapshot is to be called [default: made of the time]
    #[arg(value_name = "TAG", conflicts_with = "tag")]
    positional: Option<String>,
    /// The same as TAG
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// What is to be known of it
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let given = self.positional.or(self.tag);
        let (name, tag) = match given {
            None if self.name.contains(':') => {
                let SnapshotRef { workspace, tag } = reference(&self.name)?;
                (workspace, Some(tag.to_string()))
            }
            given => (workspace_name(&self.name)?, given),
        };
        let options = SnapshotOptions { tag, comment: self.comment, reason: self.reason };
        // It is the supervisor that takes it, and it takes no time.
        let signals = Signals::watch(|| {
            let _ = writeln!(
                anstream::stderr(),
                "the snapshot is finished first; a third signal ends this command, and not the snapshot"
            );
        })?;
        let taken = context.client()?.snapshot(&name, &options).map_err(Error::from);
        context.show(&signals.judge(taken)?)?;
        Ok(DONE)
    }
}

impl Text for SnapshotReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Snapshot", format!("{}:{}", self.workspace, self.tag)),
                ("Kind", kind(self.kind).to_owned()),
                ("Takes", takes(self.bytes, self.shared_bytes)),
            ],
        )?;
        self.pause_ms.iter().try_for_each(|pause| writeln!(out, "Paused for: {pause:.0} ms"))?;
        self.note.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}

/// What a snapshot takes on the disk.
pub(super) fn takes(alone: u64, shared: u64) -> String {
    let alone = quantity::bytes(alone);
    if shared == 0 { alone } else { format!("{alone}, and {} shared with others", quantity::bytes(shared)) }
}
