//! Leases: who holds a workspace, and whether they still live.

use crate::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FILE: &str = "lease";

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
        match file.try_lock() {
            Ok(()) => Ok(Some(Lease { _locked: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::io("lock the lease", &path)(source)),
        }
    }

    /// Whether somebody holds the lease of the workspace in `dir`. The answer may be outdated as soon as it is given.
    pub(crate) fn is_held(dir: &Path) -> Result<bool, Error> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
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
