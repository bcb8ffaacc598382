//! The snapshot that a verb is about: `NAME TAG` or `NAME:TAG`.

use super::tag;
use crate::completion;
use crate::context::workspace_name;
use crate::error::Error;
use clap_complete::ArgValueCandidates;
use microagent::SnapshotRef;

/// Which snapshot.
#[derive(clap::Args, Debug)]
pub(super) struct Target {
    /// Name of the workspace, or workspace and tag as `NAME:TAG`
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces_and_snapshots))]
    name: String,
    /// Tag of the snapshot
    #[arg(value_name = "TAG")]
    tag: Option<String>,
}

impl Target {
    /// The snapshot.
    pub(super) fn reference(&self) -> Result<SnapshotRef, Error> {
        match &self.tag {
            Some(given) => Ok(SnapshotRef { workspace: workspace_name(&self.name)?, tag: tag(given)? }),
            None if self.name.contains(':') => reference(&self.name),
            None => Err(Error::usage(
                format!("no tag is given: which snapshot of `{}` is meant?", self.name),
                format!("see what there is with `microagent snapshot list {}`", self.name),
            )),
        }
    }
}

/// A snapshot from the command line.
pub(in crate::verbs) fn reference(text: &str) -> Result<SnapshotRef, Error> {
    Ok(text.parse::<SnapshotRef>().map_err(microagent::Error::from)?)
}
