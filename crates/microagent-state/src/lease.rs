//! Leases: who holds a workspace, and whether they still live.

use crate::Error;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Its file in the directory that is held.
pub(crate) const FILE: &str = "lease";

/// A bit that means nothing for a file, and so is free to mean something here.
const STICKY: u32 = 0o1000;
/// Mode of the lease of a workspace that is marked.
const MARK: u32 = STICKY | 0o600;

/// How often to try while somebody looks whether the lease is held: each look takes microseconds.
const ATTEMPTS: usize = 100;

/// The right to run or change one workspace. The kernel gives it up when the last holder of the descriptor ends, however it ends.
#[derive(Debug)]
pub struct Lease {
    _locked: File,
}

impl Lease {
    /// Takes the lease of the workspace in `dir`, or says `None` when somebody holds it.
    pub(crate) fn acquire(dir: &Path) -> Result<Option<Lease>, Error> {
        let path = dir.join(FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open the lease", &path))?;
        Lease::lock(file, &path)
    }

    /// Marks the workspace in `dir`, for good and without taking any space: a full disk keeps nobody from it.
    pub(crate) fn mark(dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        std::fs::set_permissions(&path, Permissions::from_mode(MARK)).map_err(Error::io("mark", &path))
    }

    /// Whether it is marked.
    pub(crate) fn is_marked(dir: &Path) -> bool {
        std::fs::metadata(dir.join(FILE)).is_ok_and(|lease| lease.mode() & STICKY != 0)
    }

    fn lock(file: File, path: &Path) -> Result<Option<Lease>, Error> {
        for _ in 0..ATTEMPTS {
            match file.try_lock() {
                // The workspace may have been removed, and another one made in its place, since the file was opened.
                Ok(()) if is_at(&file, path) => return Ok(Some(Lease { _locked: file })),
                Ok(()) => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(Error::io("lock the lease", path)(source)),
            }
            // A holder lets nobody in; somebody who only looks is gone in a moment.
            match file.try_lock_shared() {
                Ok(()) => file.unlock().map_err(Error::io("unlock the lease", path))?,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(Error::io("lock the lease", path)(source)),
            }
            std::thread::yield_now();
        }
        Ok(None)
    }

    /// Whether somebody holds the lease of the workspace in `dir`. The answer may be outdated as soon as it is given.
    pub(crate) fn is_held(dir: &Path) -> Result<bool, Error> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(Error::io("open the lease", &path)(source)),
        };
        // Shared, so that two onlookers do not take each other for the holder.
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(Error::io("lock the lease", &path)(source)),
        }
    }
}

/// Whether `path` still names the file that was opened as `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_on_a_file_that_was_replaced_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, "").unwrap();
        let old = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _new = Lease::acquire(dir.path()).unwrap().unwrap();
        assert!(Lease::lock(old, &path).unwrap().is_none());
    }

    #[test]
    fn somebody_who_looks_is_not_taken_for_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        drop(Lease::acquire(dir.path()).unwrap());
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| (0..2000).for_each(|_| drop(Lease::is_held(dir.path()))));
            while !looking.is_finished() {
                assert!(Lease::acquire(dir.path()).unwrap().is_some());
            }
        });
    }
}
