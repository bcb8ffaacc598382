//! One name in one directory, and what can be put there.
//!
//! Whatever is made is made under a name of its own and renamed when it is complete, so that others see what was there before or what there
//! is to be, and a failure leaves nothing.

use super::{Ownership, in_the_way};
use crate::attributes::stand_for;
use crate::{ArchiveError, Error};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags};
use rustix::fs::{linkat, mkdirat, mknodat, openat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where an entry goes.
pub(super) struct Parent<'p> {
    /// The directory.
    pub(super) directory: &'p OwnedFd,
    /// The name in it.
    pub(super) name: &'p [u8],
    /// The entry's whole name, for messages.
    pub(super) path: &'p [u8],
}

impl Parent<'_> {
    /// Makes a directory, or finds one. Its attributes are set later.
    pub(super) fn directory(&self) -> Result<(), Error> {
        match mkdirat(self.directory, self.name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(self.directory, self.name, flags, Mode::empty())
                    .map(drop)
                    .map_err(|error| in_the_way(self.path, error))
            }
            Err(error) => Err(Error::file("make directory", self.path, error)),
        }
    }

    /// Makes a directory that the archive has no entry for.
    pub(super) fn implied_directory(&self, ownership: Ownership) -> Result<(), Error> {
        let failed = |error| Error::file("make a directory for", self.path, error);
        match mkdirat(self.directory, self.name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => return Ok(()),
            made => made.map_err(failed)?,
        }
        if let Ownership::As { uid, gid } = ownership {
            let made = stand_for(self.directory, self.name).map_err(failed)?;
            super::give_to(&made, uid, gid).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes a regular file of what `fill` writes. `mode` is what it will have in the end, as far as that can be said when a file is made.
    pub(super) fn file(&self, mode: u16, fill: impl FnOnce(&OwnedFd) -> Result<(), Error>) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode((mode & 0o777).into());
        let (name, new) = self.temporary(|name| openat(self.directory, name, flags, mode))?;
        self.complete(&name, fill(&new))
    }

    /// Makes a symbolic link; `set` gives it its attributes.
    pub(super) fn symlink(&self, target: &[u8], set: impl FnOnce(&OwnedFd) -> Result<(), Error>) -> Result<(), Error> {
        if target.is_empty() || target.contains(&0) {
            return Err(ArchiveError::entry(self.path, "it is a symbolic link to no name").into());
        }
        let (name, ()) = self.temporary(|name| symlinkat(target, self.directory, name))?;
        self.complete(&name, self.stand_for(&name, FileType::Symlink).and_then(|made| set(&made)))
    }

    /// Makes a pipe or a device.
    pub(super) fn node(
        &self,
        kind: FileType,
        device: Dev,
        set: impl FnOnce(&OwnedFd) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (name, ()) = self.temporary(|name| mknodat(self.directory, name, kind, Mode::empty(), device))?;
        self.complete(&name, self.stand_for(&name, kind).and_then(|made| set(&made)))
    }

    /// Makes another name of `name` in `directory`.
    pub(super) fn link(&self, directory: &OwnedFd, name: &[u8]) -> Result<(), Error> {
        let (temporary, ()) =
            match self.temporary(|temporary| linkat(directory, name, self.directory, temporary, AtFlags::empty())) {
                Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Err(ArchiveError::entry(self.path, "it is a link to an entry that is not there").into());
                }
                made => made?,
            };
        let completed = self.complete(&temporary, Ok(()));
        // Renaming to another name of the same file does nothing, and leaves both.
        let _ = unlinkat(self.directory, temporary, AtFlags::empty());
        completed
    }

    /// Makes something under a name that nothing has.
    fn temporary<T>(&self, make: impl Fn(&str) -> rustix::io::Result<T>) -> Result<(String, T), Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".microagent-{}-{next}.part", std::process::id());
            match make(&name) {
                Ok(new) => return Ok((name, new)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::file("make", self.path, error)),
            }
        }
    }

    /// Stands for what was made under that name, unless somebody has put something else there.
    fn stand_for(&self, name: &str, kind: FileType) -> Result<OwnedFd, Error> {
        let failed = |error| Error::file("make", self.path, error);
        let made = stand_for(self.directory, name.as_bytes()).map_err(failed)?;
        let stat = rustix::fs::fstat(&made).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == kind { Ok(made) } else { Err(failed(Errno::STALE)) }
    }

    /// Gives what was made its name, or removes it.
    fn complete(&self, temporary: &str, made: Result<(), Error>) -> Result<(), Error> {
        let renamed = made.and_then(|()| {
            renameat(self.directory, temporary, self.directory, self.name).map_err(|error| match error {
                Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY => {
                    Error::Conflict { path: crate::printable(self.path), reason: "a directory is in its place" }
                }
                error => Error::file("make", self.path, error),
            })
        });
        if renamed.is_err() {
            let _ = unlinkat(self.directory, temporary, AtFlags::empty());
        }
        renamed
    }
}
