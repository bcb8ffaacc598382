//! What snapshots there are.

use super::captures::capture;
use crate::{Client, Error};
use microagent_protocol::FaultReport;
use microagent_state::Name;
use microagent_state::snapshot::{Manifest, Snapshot, SnapshotKind, SnapshotRef, Tag};
use serde::Serialize;
use std::path::PathBuf;

/// A snapshot, as far as a list tells.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotSummary {
    /// Name of the workspace.
    pub workspace: Name,
    /// What it is called.
    pub tag: Tag,
    /// What it is good for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SnapshotKind>,
    /// When it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<jiff::Timestamp>,
    /// Bytes on disk that are this snapshot's alone.
    pub bytes: u64,
    /// Bytes on disk that it shares with other snapshots.
    pub shared_bytes: u64,
    /// What its maker had to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Why nothing can be done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<FaultReport>,
}

/// Everything about a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotDetails {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes on disk that are this snapshot's alone.
    pub bytes: u64,
    /// Bytes on disk that it shares with other snapshots.
    pub shared_bytes: u64,
    /// What it consists of.
    #[serde(flatten)]
    pub manifest: Manifest,
}

impl Client {
    /// The snapshots of a workspace, oldest first.
    pub fn snapshots(&self, name: &Name) -> Result<Vec<SnapshotSummary>, Error> {
        self.state().find(name)?;
        let references = self.state().layer_references()?;
        let summary = |(tag, snapshot): (Tag, Result<Snapshot, microagent_state::Error>)| {
            let empty = SnapshotSummary {
                workspace: name.clone(),
                tag,
                kind: None,
                created_at: None,
                bytes: 0,
                shared_bytes: 0,
                comment: None,
                error: None,
            };
            let described = snapshot.and_then(|snapshot| Ok((references.usage(&snapshot)?, snapshot)));
            match described {
                Err(error) => SnapshotSummary { error: Some(Error::from(error).report()), ..empty },
                Ok((usage, snapshot)) => SnapshotSummary {
                    kind: Some(snapshot.manifest().kind),
                    created_at: Some(snapshot.manifest().created_at),
                    bytes: usage.bytes,
                    shared_bytes: usage.shared_bytes,
                    comment: snapshot.manifest().comment.clone(),
                    ..empty
                },
            }
        };
        Ok(self.state().snapshots(name).list()?.into_iter().map(summary).collect())
    }

    /// Everything about one of them.
    pub fn inspect_snapshot(&self, reference: &SnapshotRef) -> Result<SnapshotDetails, Error> {
        let snapshot = self.state().snapshots(&reference.workspace).open(&reference.tag)?;
        let usage = snapshot.usage()?;
        Ok(SnapshotDetails {
            path: snapshot.path().to_owned(),
            bytes: usage.bytes,
            shared_bytes: usage.shared_bytes,
            manifest: snapshot.manifest().clone(),
        })
    }

    /// What one of them consists of, whether or not all of that is still what it was.
    pub fn snapshot_manifest(&self, reference: &SnapshotRef) -> Result<Manifest, Error> {
        Ok(self.state().snapshots(&reference.workspace).open_disks(&reference.tag)?.manifest().clone())
    }

    /// Removes one of them, with what nobody else needs of it. What goes on from it stays.
    pub fn delete_snapshot(&self, reference: &SnapshotRef) -> Result<(), Error> {
        let store = self.state().snapshots(&reference.workspace);
        let shape = store.open(&reference.tag).ok().and_then(|snapshot| capture(snapshot.manifest()));
        store.delete(&reference.tag)?;
        if let Some(shape) = shape {
            // What stays is evicted, or swept by `gc`.
            let _ = self.capture_store().forget(&shape);
        }
        Ok(())
    }
}
