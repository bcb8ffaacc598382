//! `microagent snapshot list`

use super::{Action, DONE, kind};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::Text;
use crate::{quantity, table};
use clap_complete::ArgValueCandidates;
use microagent::SnapshotSummary;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent snapshot list research
  microagent --json snapshot ls research";

/// List the snapshots of a workspace, oldest first
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let snapshots = context.client()?.snapshots(&workspace_name(&self.name)?)?;
        context.show(&Snapshots { snapshots })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Snapshots {
    snapshots: Vec<SnapshotSummary>,
}

impl Text for Snapshots {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.snapshots.is_empty() {
            return writeln!(out, "No snapshots.");
        }
        let header = ["TAG", "KIND", "CREATED", "SIZE", "SHARED", "COMMENT"];
        table::write(out, &header, self.snapshots.iter().map(cells).collect())
    }
}

fn cells(snapshot: &SnapshotSummary) -> Vec<String> {
    // One that cannot be used says why, in the place of what its maker said.
    let said = snapshot.error.as_ref().map(|error| error.message.clone()).or_else(|| snapshot.comment.clone());
    vec![
        snapshot.tag.to_string(),
        snapshot.kind.map_or("unusable", kind).to_owned(),
        snapshot.created_at.map(|time| time.to_string()).unwrap_or_default(),
        quantity::bytes(snapshot.bytes),
        quantity::bytes(snapshot.shared_bytes),
        said.unwrap_or_default().replace('\n', " "),
    ]
}
