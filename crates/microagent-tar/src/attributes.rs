//! Extended attributes of open files.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use std::collections::BTreeMap;
use std::ffi::CStr;

/// Most bytes Linux lists, and most bytes of one value (`include/uapi/linux/limits.h`).
const MOST: usize = 64 << 10;

/// How a file is reached.
pub(crate) enum Place<F> {
    /// Opened for reading or writing.
    Open(F),
    /// By a descriptor that stands for the file only (`O_PATH`), because it cannot or should not be opened.
    Named(F),
}

impl<F: AsFd> Place<F> {
    /// Calls are refused for descriptors that stand for a file only; through `/proc` they are not, and still no name is looked up that
    /// somebody could have given to another file meanwhile.
    fn path(fd: &F) -> String {
        format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Place::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Place::Named(fd) => rustix::fs::listxattr(Self::path(fd), buffer),
        }
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize> {
        match self {
            Place::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Place::Named(fd) => rustix::fs::getxattr(Self::path(fd), name, buffer),
        }
    }

    pub(crate) fn set(&self, name: &[u8], value: &[u8]) -> Result<()> {
        let flags = rustix::fs::XattrFlags::empty();
        match self {
            Place::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Place::Named(fd) => rustix::fs::setxattr(Self::path(fd), name, value, flags),
        }
    }

    pub(crate) fn set_mode(&self, mode: Mode) -> Result<()> {
        match self {
            Place::Open(fd) => rustix::fs::fchmod(fd, mode),
            Place::Named(fd) => rustix::fs::chmod(Self::path(fd), mode),
        }
    }
}

/// Opens `name` of the directory without opening what it stands for.
pub(crate) fn stand_for(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Opens a directory below `root`, whatever is or comes in its way: no link is followed and nothing outside is reached.
pub(crate) fn open_beneath(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(&root, path, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed while the kernel looked.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// Reads extended attributes, with memory that is used again.
pub struct AttributeReader {
    names: Box<[u8]>,
    value: Box<[u8]>,
}

impl Default for AttributeReader {
    fn default() -> Self {
        AttributeReader { names: vec![0; MOST].into(), value: vec![0; MOST].into() }
    }
}

impl AttributeReader {
    /// Those of the file called `name` in the directory `at`, itself if it is a link, as far as the caller may read them and `wanted` wants
    /// them.
    pub fn read_at(
        &mut self,
        at: impl AsFd,
        name: &CStr,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.read(&Place::Named(stand_for(at, name.to_bytes())?), wanted)
    }

    /// All attributes that the caller may read and `wanted` wants. A file system without attributes has none.
    pub(crate) fn read<F: AsFd>(
        &mut self,
        place: &Place<F>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut attributes = BTreeMap::new();
        let length = match place.list(&mut self.names) {
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM | Errno::NOENT) => return Ok(attributes),
            listed => listed?,
        };
        let names = self.names[..length].split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty() && wanted(name)) {
            match place.get(name, &mut self.value) {
                Ok(length) => drop(attributes.insert(name.to_vec(), self.value[..length].to_vec())),
                // Gone meanwhile, or not for everyone's eyes.
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(attributes)
    }
}
