//! The claim of a running pull, build or import on the store.
//!
//! A lease is a directory under `work/` that holds everything unfinished, and a lock in it that is held for as long as
//! the work goes on. Its `roots.json` names the digests the work needs, so that a clean-up at the same moment spares
//! blobs that no finished image refers to yet. A process that dies releases the lock, and its directory is garbage.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::{Digest, Error};

use super::{ImageStore, files, lock::FileLock};

const LOCK: &str = "lock";
const ROOTS: &str = "roots.json";
/// Largest `roots.json`: a digest for each of the most layers an image may have, several times over.
const MAX_ROOTS: u64 = 1024 * 1024;

pub(super) struct Lease {
    directory: PathBuf,
    _lock: FileLock,
}

impl Lease {
    /// A place for new files, on the same filesystem as the rest of the store.
    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// A file that has no name and vanishes with its last descriptor.
    pub(super) fn temporary_file(&self) -> Result<File, Error> {
        tempfile::tempfile_in(&self.directory).map_err(Error::io("creating a file in", &self.directory))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next clean-up.
        let _ = files::remove(&self.directory);
    }
}

impl ImageStore {
    /// Claims `roots` for as long as the lease lives.
    pub(super) fn lease(&self, roots: &[Digest]) -> Result<Lease, Error> {
        // Between the creation of the directory and the lock in it, a clean-up would take it for garbage.
        let _exclusive = self.exclusive()?;
        let work = self.work();
        let directory = tempfile::Builder::new().prefix("lease-").tempdir_in(&work);
        let directory = directory.map_err(Error::io("creating a directory in", &work))?;
        let held = FileLock::try_acquire(&directory.path().join(LOCK))?;
        let held = held.ok_or_else(|| Error::io("locking", directory.path())(std::io::ErrorKind::WouldBlock.into()))?;
        files::write_record(&directory.path().join(ROOTS), &roots)?;
        Ok(Lease { directory: directory.keep(), _lock: held })
    }

    /// What the leases of running work claim, and the directories of work that is no more.
    pub(super) fn leases(&self) -> Result<(Vec<Digest>, Vec<PathBuf>), Error> {
        let (mut claimed, mut dead) = (Vec::new(), Vec::new());
        for directory in files::entries(&self.work())? {
            let lock = directory.join(LOCK);
            match lock.exists().then(|| FileLock::try_acquire(&lock)) {
                None | Some(Ok(Some(_))) => dead.push(directory),
                Some(Ok(None)) => {
                    let roots = files::read(&directory.join(ROOTS), MAX_ROOTS)?.unwrap_or_default();
                    claimed.extend(serde_json::from_slice::<Vec<Digest>>(&roots).unwrap_or_default());
                }
                // Its owner finished and removed it a moment ago.
                Some(Err(_)) if !directory.exists() => {}
                Some(Err(error)) => return Err(error),
            }
        }
        Ok((claimed, dead))
    }
}
