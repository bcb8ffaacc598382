//! What a workspace was when it was quarantined, kept to be looked at.

use super::SnapshotOptions;
use crate::{Client, Error, StateReport};
use microagent_protocol::FaultReport;
use microagent_state::snapshot::{SnapshotKind, SnapshotRef, Tag};
use microagent_state::{Name, Phase, Workspace};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long the capture may take before the workspace is quarantined without it: a supervisor that does not answer must not keep a
/// workspace in service.
const CAPTURE_LIMIT: Duration = Duration::from_mins(10);

/// A workspace that was quarantined, and what was kept of it.
#[derive(Clone, Debug, Serialize)]
pub struct Quarantined {
    /// What became of the workspace.
    #[serde(flatten)]
    pub report: StateReport,
    /// The snapshot that was taken first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Tag>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_error: Option<FaultReport>,
}

impl Client {
    /// Takes a snapshot of a workspace as it is, whatever secrets are in it, and quarantines it, whatever came of the snapshot. Nothing can be
    /// started from it. From when this has been asked of a workspace that runs, it happens whatever becomes of who asked.
    pub fn capture_and_quarantine(&self, name: &Name, reason: String, tag: Option<Tag>) -> Result<Quarantined, Error> {
        let workspace = self.state().find(name)?;
        let was = workspace.status()?.phase;
        let taken = self.state().snapshots(name).tags()?;
        if let Some(tag) = tag.as_ref().filter(|tag| taken.contains(tag)) {
            let snapshot = SnapshotRef { workspace: name.clone(), tag: tag.clone() };
            return Err(microagent_state::Error::SnapshotExists { snapshot }.into());
        }
        let captured = self.capture(&workspace, was, &reason, tag);
        let mut report = self.quarantine(name, reason)?;
        report.changed |= was != Phase::Quarantined;
        let (capture, capture_error) = match captured {
            Ok(tag) => (Some(tag), None),
            Err(error) => (None, Some(error.report())),
        };
        Ok(Quarantined { report, capture, capture_error })
    }

    fn capture(&self, workspace: &Workspace, was: Phase, reason: &str, tag: Option<Tag>) -> Result<Tag, Error> {
        let (comment, because) = (Some(reason.to_owned()), Some(reason.to_owned()));
        let options = SnapshotOptions { comment, reason: because, ..SnapshotOptions::default() };
        if !was.is_live() {
            return Ok(self.snapshot_at_rest(workspace.name(), tag.as_ref(), SnapshotKind::Forensic, &options)?.tag);
        }
        let deadline = Some(Instant::now() + CAPTURE_LIMIT);
        let (snapshot, _) = self.ask_for_snapshot(workspace, tag, true, &options, deadline)?;
        Ok(snapshot.manifest().tag.clone())
    }
}
