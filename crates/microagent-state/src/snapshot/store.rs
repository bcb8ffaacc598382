//! The snapshots of one workspace.

use super::staged::sync;
use super::{Layers, Manifest, SnapshotRef, Staged, Tag, files};
use crate::gc::{NEW_PREFIX, doomed_path};
use crate::{Error, Lease, Name, StateDir};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
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

/// A tag, and the snapshot that has it or why it cannot be opened.
pub type Listed = (Tag, Result<Snapshot, Error>);

/// The snapshots of one workspace.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    state: StateDir,
    workspace: Name,
}

impl SnapshotStore {
    /// Those of another workspace.
    #[must_use]
    pub fn of(&self, workspace: &Name) -> SnapshotStore {
        self.state.snapshots(workspace)
    }

    /// The workspace.
    pub fn workspace(&self) -> &Name {
        &self.workspace
    }

    /// Starts to make a snapshot. Refused when one has the tag, or is just being made with it.
    pub fn stage(&self, tag: &Tag) -> Result<Staged, Error> {
        let workspace = self.state.find(&self.workspace)?;
        let exists = || Error::SnapshotExists { snapshot: self.reference(tag) };
        if self.path_of(tag).symlink_metadata().is_ok() {
            return Err(exists());
        }
        let writing = self.state.layers().writing()?;
        let parent = self.directory();
        match DirBuilder::new().mode(0o700).create(&parent) {
            Ok(()) => sync(workspace.path())?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::io("make the directory", &parent)(source)),
        }
        // Made under a name of its own and renamed with the lease already held, as workspaces are: whoever sees it sees whether its maker
        // lives. The shared lock closes the gap before the lease exists.
        let sweeping = self.state.sweep_lock()?;
        sweeping.lock_shared().map_err(Error::io("lock", &parent))?;
        let new = tempfile::Builder::new()
            .prefix(&format!("{NEW_PREFIX}."))
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(Error::io("make a snapshot in", &parent))?;
        let lease = Lease::acquire(new.path())?.ok_or_else(exists)?;
        let path = parent.join(format!("{NEW_PREFIX}{tag}"));
        loop {
            match renameat_with(CWD, new.path(), CWD, &path, RenameFlags::NOREPLACE) {
                Ok(()) => break,
                Err(rustix::io::Errno::EXIST) if remove(&path)? => {}
                Err(rustix::io::Errno::EXIST) => return Err(exists()),
                Err(errno) => return Err(Error::io("make the snapshot", &path)(errno.into())),
            }
        }
        let _gone = new.keep();
        Ok(Staged { store: self.clone(), tag: tag.clone(), path, writing, _lease: lease })
    }

    /// Starts to make a snapshot whose tag is the time.
    pub fn stage_at(&self, time: Timestamp) -> Result<Staged, Error> {
        let mut choice = 1;
        loop {
            match self.stage(&Tag::of_time(time, choice)) {
                Err(Error::SnapshotExists { .. }) => choice += 1,
                staged => return staged,
            }
        }
    }

    /// Finds a snapshot, and makes sure that its manifest and its small files are what they were.
    pub fn open(&self, tag: &Tag) -> Result<Snapshot, Error> {
        self.state.find(&self.workspace)?;
        let path = self.path_of(tag);
        let manifest = self.manifest(tag)?;
        match files::wrong(&path, &manifest.files)? {
            Some(reason) => Err(Error::SnapshotDamaged { snapshot: self.reference(tag), reason }),
            None => Ok(Snapshot::new(self, path, manifest)),
        }
    }

    /// The same, for whoever wants its disks alone, which are in none of the small files.
    pub fn open_disks(&self, tag: &Tag) -> Result<Snapshot, Error> {
        self.state.find(&self.workspace)?;
        Ok(Snapshot::new(self, self.path_of(tag), self.manifest(tag)?))
    }

    /// The tags there are, in order.
    pub fn tags(&self) -> Result<Vec<Tag>, Error> {
        let entries = self.entries()?;
        let tag = |path: PathBuf| Tag::new(path.file_name()?.to_str()?).ok();
        let mut tags: Vec<Tag> = entries.into_iter().filter_map(tag).collect();
        tags.sort();
        Ok(tags)
    }

    /// All of them, oldest first, those that cannot be opened last.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let open = |tag: Tag| {
            let snapshot = self.open(&tag);
            (tag, snapshot)
        };
        let mut all: Vec<_> = self.tags()?.into_iter().map(open).collect();
        // One may have been deleted since its name was read.
        all.retain(|(_, snapshot)| !matches!(snapshot, Err(Error::SnapshotNotFound { .. } | Error::NotFound { .. })));
        all.sort_by_key(|(_, snapshot)| {
            snapshot.as_ref().map_or(Timestamp::MAX, |snapshot| snapshot.manifest.created_at)
        });
        Ok(all)
    }

    /// Removes a snapshot, and the layers that only it needed: now, or when they are next swept if somebody writes some just now or it
    /// cannot be told which others need.
    pub fn delete(&self, tag: &Tag) -> Result<(), Error> {
        let path = self.path_of(tag);
        let not_found = || Error::SnapshotNotFound { snapshot: self.reference(tag) };
        self.state.find(&self.workspace)?;
        if !path.is_dir() {
            return Err(not_found());
        }
        match remove(&path) {
            Ok(true) => {}
            Ok(false) if path.is_dir() => return Err(Error::SnapshotInUse { snapshot: self.reference(tag) }),
            Ok(false) => return Err(not_found()),
            Err(error) => return Err(error),
        }
        let _ = self.state.sweep_layers();
        Ok(())
    }

    /// What leads to one of them.
    pub(super) fn reference(&self, tag: &Tag) -> SnapshotRef {
        SnapshotRef { workspace: self.workspace.clone(), tag: tag.clone() }
    }

    /// The directory they are in, if there are any.
    pub fn directory(&self) -> PathBuf {
        self.state.workspaces().join(self.workspace.as_str()).join("snapshots")
    }

    /// The directory one of them is.
    pub(super) fn path_of(&self, tag: &Tag) -> PathBuf {
        self.directory().join(tag.as_str())
    }

    /// The manifest of one of them.
    pub(super) fn manifest(&self, tag: &Tag) -> Result<Manifest, Error> {
        Manifest::read(&self.path_of(tag), &self.reference(tag))
    }

    /// What is in their directory: snapshots, what is becoming one, and what was one.
    pub(super) fn entries(&self) -> Result<Vec<PathBuf>, Error> {
        let parent = self.directory();
        match std::fs::read_dir(&parent) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
            Err(source) => Err(Error::io("list", &parent)(source)),
            Ok(entries) => entries.map(|entry| Ok(entry.map_err(Error::io("list", &parent))?.path())).collect(),
        }
    }
}

/// Removes the directory of a snapshot, whole or half-made; false when somebody holds it.
fn remove(path: &Path) -> Result<bool, Error> {
    let lease = match Lease::acquire(path) {
        Ok(Some(lease)) => lease,
        Ok(None) => return Ok(false),
        // Somebody else was quicker.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    // Renamed first: a crash half way leaves rubbish for the collector, never half a snapshot.
    let doomed = doomed_path(path);
    std::fs::rename(path, &doomed).map_err(Error::io("remove", path))?;
    let _ = std::fs::remove_dir_all(&doomed);
    drop(lease);
    Ok(true)
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: StateDir,
    path: PathBuf,
    manifest: Manifest,
}

impl Snapshot {
    pub(super) fn new(store: &SnapshotStore, path: PathBuf, manifest: Manifest) -> Snapshot {
        Snapshot { state: store.state.clone(), path, manifest }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What leads to it.
    pub fn reference(&self) -> SnapshotRef {
        SnapshotRef { workspace: self.manifest.workspace.clone(), tag: self.manifest.tag.clone() }
    }

    /// The layers of all snapshots.
    pub fn layers(&self) -> Layers {
        self.state.layers()
    }

    pub(super) fn state(&self) -> &StateDir {
        &self.state
    }

    /// The path of one of its small files; `None` when it has no such file.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.manifest.files.contains_key(name).then(|| self.path.join(name))
    }
}
