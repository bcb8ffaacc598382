//! Who has a volume or a disk: locks that the kernel releases however their holder ends.
//!
//! ```text
//! lock               shared by those who read the volume, exclusive to one who writes it or changes the volume itself
//! attached/<name>/   with a lease that the workspace of that name holds for as long as it has the volume
//! ```
//!
//! The first decides, the others only tell. A lease that nobody holds is left from a crash and means nothing.

use crate::lease::is_at;
use crate::record::MountMode;
use crate::{Error, Lease, Name};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const HOLDERS: &str = "attached";

/// The right of one workspace to use a volume, until this is dropped or the process ends.
#[derive(Debug)]
pub struct Attachment {
    holder: PathBuf,
    _lease: Lease,
    _lock: File,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // What stays is not held any more, and so says nothing.
        let _ = std::fs::remove_dir_all(&self.holder);
    }
}

/// The right to use a disk that is a file of the user's, until this is dropped or the process ends. It holds among those who ask for
/// it, and so among the workspaces of all state directories, but keeps no other program from the file.
#[derive(Debug)]
pub struct DiskLock {
    _file: File,
}

impl DiskLock {
    /// Takes the file or device at `path`: to write to it alone, or to read it beside others that only read.
    pub fn acquire(path: &Path, mode: MountMode) -> Result<DiskLock, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(mode == MountMode::ReadWrite)
            .open(path)
            .map_err(Error::io("open the disk", path))?;
        match try_lock(&file, mode) {
            Ok(()) => Ok(DiskLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::DiskInUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock the disk", path)(source)),
        }
    }
}

fn try_lock(file: &File, mode: MountMode) -> Result<(), TryLockError> {
    match mode {
        MountMode::ReadOnly => file.try_lock_shared(),
        MountMode::ReadWrite => file.try_lock(),
    }
}

/// Takes the lock of the volume in `dir`; `None` when it is held in a way that excludes this.
pub(super) fn lock(dir: &Path, mode: MountMode) -> Result<Option<File>, Error> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io("open the lock", &path))?;
    match try_lock(&file, mode) {
        // The volume may have been removed, and another one made in its place, since the file was opened.
        Ok(()) => Ok(is_at(&file, &path).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(Error::io("take the lock", &path)(source)),
    }
}

/// Attaches the volume in `dir` to `holder`; `None` when somebody has it in a way that excludes this.
pub(super) fn attach(dir: &Path, mode: MountMode, holder: &Name) -> Result<Option<Attachment>, Error> {
    let Some(lock) = lock(dir, mode)? else { return Ok(None) };
    let holder = dir.join(HOLDERS).join(holder.as_str());
    loop {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&holder)
            .map_err(Error::io("make the directory", &holder))?;
        return match Lease::acquire(&holder) {
            Ok(lease) => Ok(lease.map(|lease| Attachment { holder, _lease: lease, _lock: lock })),
            // An earlier attachment of the same workspace took the directory along as it went.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            Err(error) => Err(error),
        };
    }
}

/// The workspaces that have the volume in `dir` now, in order. The answer may be outdated as soon as it is given.
pub(super) fn holders(dir: &Path) -> Result<Vec<Name>, Error> {
    let directory = dir.join(HOLDERS);
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", &directory))?,
    };
    let mut holders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", &directory))?;
        let name = entry.file_name().to_str().and_then(|name| Name::new(name).ok());
        if Lease::is_held(&entry.path())? {
            holders.extend(name);
        }
    }
    holders.sort();
    Ok(holders)
}
