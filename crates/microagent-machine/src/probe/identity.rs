//! Files told apart without being read.

use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file, told from the same path at another time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Who may open it, as far as the file says.
    access: (u32, u32, u32),
}

impl FileIdentity {
    /// The file at `path` as it is now; `None` when it cannot be looked at.
    pub fn of(path: &Path) -> Option<FileIdentity> {
        let file = fs::metadata(path).ok()?;
        Some(FileIdentity {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            access: (file.mode(), file.uid(), file.gid()),
        })
    }

    /// Whether the file is still there, and the same.
    pub fn holds(&self) -> bool {
        FileIdentity::of(&self.path).as_ref() == Some(self)
    }
}
