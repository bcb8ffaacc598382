//! Locks on files, only ever tried.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often a lock file that is replaced while it is being locked is tried again.
const ATTEMPTS: usize = 10;

/// A lock that is held. The kernel gives it up when its holder ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path`, or says `None` when somebody holds it.
    pub(super) fn acquire(path: &Path) -> io::Result<Option<Lock>> {
        for _ in 0..ATTEMPTS {
            let file = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
            if !lock(&file)? {
                return Ok(None);
            }
            // Whoever held it may have removed the file, and then it guards nothing.
            if is_at(&file, path) {
                return Ok(Some(Lock { _file: file, path: path.to_owned() }));
            }
        }
        Ok(None)
    }

    /// Removes the lock's file with it.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Locks `file`; `false` when somebody else holds it.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = |file: fs::Metadata, named: fs::Metadata| (file.dev(), file.ino()) == (named.dev(), named.ino());
    file.metadata().and_then(|file| Ok(same(file, fs::symlink_metadata(path)?))).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_its_file_can_go_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::acquire(&path).unwrap().unwrap();
        assert!(Lock::acquire(&path).unwrap().is_none());
        held.remove().unwrap();
        assert!(!path.exists());
        assert!(Lock::acquire(&path).unwrap().is_some());
    }
}
