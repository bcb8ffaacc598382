//! Whether a file of the upper directory is what it was below.

use super::is_of_file;
use microagent_tar::AttributeReader;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat, openat, readlinkat};
use rustix::io::{Errno, Result};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;

/// Bytes compared at once.
const CHUNK: usize = 64 << 10;

/// By which overlayfs knows a directory that hides what is below it.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// A file of a lower layer.
pub(super) struct Lower<'l> {
    pub(super) at: BorrowedFd<'l>,
    pub(super) stat: Stat,
    /// It is of the machine's own layer, which is written anew at every boot.
    pub(super) is_machines: bool,
}

/// Compares files, with memory that is used again.
#[derive(Default)]
pub(super) struct Comparison {
    attributes: AttributeReader,
}

impl Comparison {
    /// Whether the directory hides what is below it.
    pub(super) fn is_opaque(&mut self, at: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
        let attributes = self.attributes.read_at(at, name, |name| name == OPAQUE)?;
        Ok(attributes.get(OPAQUE).is_some_and(|value| value == b"y"))
    }

    /// Whether two directories have the same attributes. When something was last put into them does not count.
    pub(super) fn is_same_directory(
        &mut self,
        at: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        lower: &Lower<'_>,
    ) -> Result<bool> {
        Ok(has_same_owner(stat, &lower.stat) && self.has_same_attributes(at, name, lower)?)
    }

    /// Whether two files are the same in everything. Contents are read only where all else is the same.
    pub(super) fn is_same_file(
        &mut self,
        at: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        lower: &Lower<'_>,
    ) -> Result<bool> {
        let below = &lower.stat;
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        Ok(has_same_owner(stat, below)
            && (stat.st_size, stat.st_rdev) == (below.st_size, below.st_rdev)
            && (lower.is_machines || time(stat) == time(below))
            && self.has_same_attributes(at, name, lower)?
            && match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => has_same_content(open(at, name)?, open(lower.at, name)?)?,
                FileType::Symlink => readlinkat(at, name, Vec::new())? == readlinkat(lower.at, name, Vec::new())?,
                _ => true,
            })
    }

    fn has_same_attributes(&mut self, at: BorrowedFd<'_>, name: &CStr, lower: &Lower<'_>) -> Result<bool> {
        Ok(self.attributes.read_at(at, name, is_of_file)? == self.attributes.read_at(lower.at, name, is_of_file)?)
    }
}

fn has_same_owner(one: &Stat, other: &Stat) -> bool {
    (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
}

fn open(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

fn has_same_content(one: OwnedFd, other: OwnedFd) -> Result<bool> {
    let (mut one, mut other) = (File::from(one), File::from(other));
    let (mut first, mut second) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    let failed = |error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    loop {
        first.clear();
        second.clear();
        (&mut one).take(CHUNK as u64).read_to_end(&mut first).map_err(failed)?;
        (&mut other).take(CHUNK as u64).read_to_end(&mut second).map_err(failed)?;
        if first != second {
            return Ok(false);
        }
        if first.is_empty() {
            return Ok(true);
        }
    }
}
