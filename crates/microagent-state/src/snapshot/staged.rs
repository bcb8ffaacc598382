//! A snapshot that is being made.

use super::{Manifest, Snapshot, Tag, Writing};
use crate::{Error, Lease};
use std::path::{Path, PathBuf};

/// A snapshot that is being made. It goes away again unless it is published.
#[derive(Debug)]
pub struct Staged {
    tag: Tag,
    path: PathBuf,
    writing: Writing,
    _lease: Lease,
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
        let _ = manifest;
        todo!()
    }
}
