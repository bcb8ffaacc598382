//! The snapshots of one workspace.

use super::{Layers, Manifest, Staged, Tag, Usage};
use crate::{Error, Name, StateDir};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

impl StateDir {
    /// The layers of all snapshots.
    pub fn layers(&self) -> Layers {
        Layers::new(self.root().join("layers"))
    }

    /// The snapshots of a workspace.
    pub fn snapshots(&self, workspace: &Name) -> SnapshotStore {
        SnapshotStore { state: self.clone(), workspace: workspace.clone() }
    }
}

/// The snapshots of one workspace.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    state: StateDir,
    workspace: Name,
}

impl SnapshotStore {
    /// Starts to make a snapshot. Refused when one has the tag, or is just being made with it.
    pub fn stage(&self, tag: &Tag) -> Result<Staged, Error> {
        let _ = (&self.state, tag);
        todo!()
    }

    /// Starts to make a snapshot whose tag is the time.
    pub fn stage_at(&self, time: Timestamp) -> Result<Staged, Error> {
        let _ = time;
        todo!()
    }

    /// Finds a snapshot, and makes sure that its manifest and its small files are what they were.
    pub fn open(&self, tag: &Tag) -> Result<Snapshot, Error> {
        let _ = (&self.workspace, tag);
        todo!()
    }

    /// All of them, oldest first, those that cannot be opened last.
    pub fn list(&self) -> Result<Vec<(Tag, Result<Snapshot, Error>)>, Error> {
        todo!()
    }

    /// Removes a snapshot, and the layers that only it needed unless somebody writes some just now. Returns how many bytes that freed.
    pub fn delete(&self, tag: &Tag) -> Result<u64, Error> {
        let _ = tag;
        todo!()
    }
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: StateDir,
    path: PathBuf,
    manifest: Manifest,
}

impl Snapshot {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The path of one of its small files; `None` when it has no such file.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.manifest.files.contains_key(name).then(|| self.path.join(name))
    }

    /// What it takes on the disk.
    pub fn usage(&self) -> Result<Usage, Error> {
        let _ = &self.state;
        todo!()
    }
}
