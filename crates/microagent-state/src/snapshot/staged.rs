//! A snapshot that is being made.
//!
//! Until it is published it is a directory that no tag leads to, held by its lease: a collector takes it away when its maker is gone. It
//! becomes a snapshot by being renamed, when everything in it and every layer it names is on the disk.

use super::store::Snapshot;
use super::{Manifest, SnapshotStore, Tag, Writing, files};
use crate::record::Record;
use crate::{Error, Lease};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A snapshot that is being made. It goes away again unless it is published.
#[derive(Debug)]
pub struct Staged {
    pub(super) store: SnapshotStore,
    pub(super) tag: Tag,
    pub(super) path: PathBuf,
    pub(super) writing: Writing,
    /// Held until the files are gone, or the snapshot is there.
    pub(super) _lease: Lease,
}

impl Staged {
    /// Its tag.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// The directory that small files are to be put in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The right to write its layers.
    pub fn layers(&self) -> &Writing {
        &self.writing
    }

    /// Makes it a snapshot, all at once. The tag, the workspace and the digests of the files are filled in.
    pub fn publish(self, manifest: Manifest) -> Result<Snapshot, Error> {
        let files = files::seal(&self.path)?;
        let workspace = self.store.workspace().clone();
        let manifest = Manifest { tag: self.tag.clone(), workspace, files, ..manifest };
        // A manifest whose layers are not there would keep what is wrong from being seen until it is too late.
        manifest.layers().try_for_each(|layer| self.writing.layers().bytes(layer).map(drop))?;
        manifest.store(&self.path)?;
        sync(&self.path.join(Manifest::FILE))?;
        sync(&self.path)?;

        let path = self.store.path_of(&self.tag);
        match renameat_with(CWD, &self.path, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => {
                return Err(Error::SnapshotExists { snapshot: self.store.reference(&self.tag) });
            }
            Err(errno) => return Err(Error::io("make the snapshot", &path)(errno.into())),
        }
        sync(&self.store.directory())?;
        Ok(Snapshot::new(&self.store, path, manifest))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Nothing is there any more once it is published. What cannot be removed is the collector's.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Makes sure that a file or directory is on the disk.
pub(super) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("write", path))
}
