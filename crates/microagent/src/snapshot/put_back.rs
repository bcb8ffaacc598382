//! Disks of a snapshot, given back to its workspace.

use super::Restoring;
use crate::{Client, Error};
use microagent_state::snapshot::SnapshotRef;
use microagent_state::{Name, Phase, WorkspaceRecord};
use serde::Serialize;

/// A workspace that has the disks of a snapshot again.
#[derive(Clone, Debug, Serialize)]
pub struct DisksRestored {
    /// Name of the workspace.
    pub workspace: Name,
    /// The snapshot.
    pub snapshot: SnapshotRef,
    /// Where the workspace is in its life, which this does not change.
    pub state: Phase,
}

impl Client {
    /// Gives a workspace at rest the disks of one of its snapshots, and has it be what it was then. What was on its disks is lost. Nothing
    /// is started.
    pub fn restore_disks(&self, from: &SnapshotRef, reason: Option<String>) -> Result<DisksRestored, Error> {
        self.check_restorable(&from.workspace)?;
        self.at_rest(&from.workspace, |workspace, record| {
            check(&from.workspace, record.phase)?;
            let restoring = Restoring::open_disks(self, from)?;
            let wanted = WorkspaceRecord {
                updated_at: jiff::Timestamp::now(),
                // It is still what became of it last.
                error: record.error.clone(),
                ..restoring.record(record)
            };
            restoring.disks(workspace, &wanted)?.commit(workspace)?;
            workspace.store(&wanted)?;
            let what = format!("the disks of snapshot `{from}`");
            workspace.note(&wanted, "restored", self.cause(reason.or(Some(what))))?;
            Ok(DisksRestored { workspace: from.workspace.clone(), snapshot: from.clone(), state: wanted.phase })
        })
    }

    /// Fails where a workspace is not at rest, or is to stay as it is.
    pub fn check_restorable(&self, name: &Name) -> Result<(), Error> {
        check(name, self.record(name)?.phase)
    }
}

fn check(name: &Name, state: Phase) -> Result<(), Error> {
    if state.can_start() {
        return Ok(());
    }
    Err(Error::WrongState { name: name.to_string(), state, doing: "restore" })
}
