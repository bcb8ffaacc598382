//! An archive into files.
//!
//! Whoever made the archive may want to reach what is not below the directory, and so may whoever else works in the directory at the same
//! time. Therefore every directory is opened by the kernel's own rules for that (`openat2(2)`: beneath, through no link), every file is
//! made and renamed by its last name in a directory held open, and what is set of a file is set by a descriptor of that very file.

mod place;

use crate::archive::{Archive, Entry, EntryKind, Metadata, StreamSource};
use crate::attributes::{Place, open_beneath};
use crate::limits::check;
use crate::path::split;
use crate::{ArchiveError, Error, Limits};
use place::Parent;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, futimens};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::Read;

/// How writers pad an archive, at most.
const PADDING: u64 = 1 << 20;

/// Whose the files will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The caller's, as of any file it makes.
    #[default]
    Caller,
    /// Whoever the archive says. Takes privileges.
    Archive,
    /// This user's and group's. Takes privileges.
    As {
        /// User number.
        uid: u32,
        /// Group number.
        gid: u32,
    },
}

/// What an archive may do.
///
/// The default is what the archive of a stranger may do on a host, whoever the caller is: its files are the caller's, none is setuid or
/// setgid, none is a device, and attributes are those of the `user` namespace.
#[derive(Clone, Debug, Default)]
pub struct UnpackOptions {
    /// Whose the files will be.
    pub ownership: Ownership,
    /// Keep setuid and setgid.
    pub special_bits: bool,
    /// Make device nodes. Takes privileges.
    pub devices: bool,
    /// Set extended attributes of any namespace.
    pub all_attributes: bool,
    /// The one name in the directory that entries may have, or be below of. Without it they may have any.
    pub within: Option<Vec<u8>>,
    /// Bounds on the archive.
    pub limits: Limits,
}

impl UnpackOptions {
    /// Everything an archive says, as root of a machine restores it; only memory is bounded.
    pub fn faithful(ownership: Ownership) -> Self {
        let limits = Limits { entries: u64::MAX, total_bytes: u64::MAX, ..Limits::default() };
        UnpackOptions { ownership, special_bits: true, devices: true, all_attributes: true, within: None, limits }
    }
}

/// What was unpacked, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries that are files now.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Device nodes left out.
    pub skipped_devices: u64,
    /// Extended attributes left out: not granted, or not known to the file system.
    pub skipped_attributes: u64,
    /// Files made without the setuid or setgid the archive says.
    pub stripped_modes: u64,
}

/// Unpacks the archive `input` below `directory`, which stays as it is itself.
///
/// Regular files appear under their names whole or not at all. A file replaces what is there, unless that is a directory; a directory is
/// merged with a directory that is there, and replaces nothing. When an entry cannot be unpacked, those before it stay.
pub fn unpack(directory: impl AsFd, input: impl Read, options: &UnpackOptions) -> Result<Unpacked, Error> {
    let mut unpacker = Unpacker {
        root: directory.as_fd(),
        options,
        parent: None,
        directories: BTreeMap::new(),
        metadata_bytes: 0,
        unpacked: Unpacked::default(),
    };
    let mut archive = Archive::new(StreamSource::new(input), &options.limits);
    let read = unpacker.entries(&mut archive);
    let finished = unpacker.finish_directories();
    read.and(finished)?;
    Ok(unpacker.unpacked)
}

struct Unpacker<'o> {
    root: BorrowedFd<'o>,
    options: &'o UnpackOptions,
    /// The directory the last entry went to: most go where the one before went.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// What directories will be like when nothing is put into them any more.
    directories: BTreeMap<Vec<u8>, Metadata>,
    metadata_bytes: u64,
    unpacked: Unpacked,
}

impl Unpacker<'_> {
    fn entries<R: Read>(&mut self, archive: &mut Archive<'_, StreamSource<R>>) -> Result<(), Error> {
        while let Some(entry) = archive.next_entry()? {
            check("entries", self.unpacked.entries + self.unpacked.skipped_devices + 1, self.options.limits.entries)?;
            self.entry(archive, entry)?;
        }
        if !archive.has_end() {
            let length = archive.position();
            return Err(ArchiveError::Truncated { needed: length + 1024, length }.into());
        }
        Ok(archive.drain(PADDING)?)
    }

    fn entry<R: Read>(&mut self, archive: &mut Archive<'_, StreamSource<R>>, entry: Entry) -> Result<(), Error> {
        let Entry { path, metadata, kind } = entry;
        let names = split(&path, &self.options.limits)?;
        let Some((name, parents)) = names.split_last() else {
            return match kind {
                EntryKind::Directory => Ok(()),
                _ => Err(ArchiveError::entry(&path, "it has no name").into()),
            };
        };
        self.check_within(&path, &names)?;
        if matches!(kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. }) && !self.options.devices {
            self.unpacked.skipped_devices += 1;
            return Ok(());
        }
        let directory = self.open_parent(&path, parents)?;
        let place = Parent { directory: &directory, name, path: &path };
        let made = match kind {
            EntryKind::Directory => place.directory().and_then(|()| self.remember(joined(&names), metadata)),
            EntryKind::File { size, content } => {
                let total = self.unpacked.bytes.saturating_add(size);
                check("total_bytes", total, self.options.limits.total_bytes)?;
                self.unpacked.bytes = total;
                place.file(metadata.mode, |file| {
                    archive.read_content(size, &content, |at, bytes| write_at(file, bytes, at, &path))?;
                    if matches!(content, crate::Content::Sparse(_)) {
                        rustix::fs::ftruncate(file, size).map_err(|error| Error::file("write", &path, error))?;
                    }
                    self.set(file, &path, &metadata)
                })
            }
            EntryKind::HardLink(target) => {
                let names = split(&target, &self.options.limits)?;
                let Some((last, parents)) = names.split_last() else {
                    return Err(ArchiveError::entry(&path, "it is a link to a directory").into());
                };
                self.check_within(&path, &names)?;
                let from = open_beneath(self.root, &joined(parents), OFlags::PATH)
                    .map_err(|error| Error::file("find what is linked to by", &path, error))?;
                place.link(&from, last)
            }
            EntryKind::Symlink(target) => place.symlink(&target, |made| self.set_named(made, &path, &metadata, true)),
            EntryKind::Fifo => {
                place.node(rustix::fs::FileType::Fifo, 0, |made| self.set_named(made, &path, &metadata, false))
            }
            EntryKind::CharDevice { major, minor } => {
                let device = rustix::fs::makedev(major, minor);
                place.node(rustix::fs::FileType::CharacterDevice, device, |made| {
                    self.set_named(made, &path, &metadata, false)
                })
            }
            EntryKind::BlockDevice { major, minor } => {
                let device = rustix::fs::makedev(major, minor);
                place.node(rustix::fs::FileType::BlockDevice, device, |made| {
                    self.set_named(made, &path, &metadata, false)
                })
            }
        };
        self.parent = Some((joined(parents), directory));
        made?;
        self.unpacked.entries += 1;
        Ok(())
    }

    /// Fails unless a name is one that the archive was asked for.
    fn check_within(&self, path: &[u8], names: &[&[u8]]) -> Result<(), Error> {
        match &self.options.within {
            Some(within) if names.first() != Some(&within.as_slice()) => {
                Err(ArchiveError::entry(path, "it is not part of what was asked for").into())
            }
            _ => Ok(()),
        }
    }

    /// The directory that an entry goes to, made where it is missing.
    fn open_parent(&mut self, path: &[u8], names: &[&[u8]]) -> Result<OwnedFd, Error> {
        let whole = joined(names);
        if let Some((last, directory)) = self.parent.take()
            && last == whole
        {
            return Ok(directory);
        }
        match open_beneath(self.root, &whole, OFlags::PATH) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(in_the_way(path, error)),
        }
        let mut directory = open_beneath(self.root, b".", OFlags::PATH).map_err(|error| in_the_way(path, error))?;
        for name in names {
            Parent { directory: &directory, name, path }.implied_directory(self.options.ownership)?;
            directory = open_beneath(&directory, name, OFlags::PATH).map_err(|error| in_the_way(path, error))?;
        }
        Ok(directory)
    }

    fn remember(&mut self, path: Vec<u8>, metadata: Metadata) -> Result<(), Error> {
        let attributes: usize = metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.metadata_bytes += (size_of::<Metadata>() + path.len() + attributes) as u64;
        check("metadata_bytes", self.metadata_bytes, self.options.limits.metadata_bytes)?;
        self.directories.insert(path, metadata);
        Ok(())
    }

    /// Gives directories their attributes: what is in one before itself, because it may be closed to us then.
    fn finish_directories(&mut self) -> Result<(), Error> {
        for (path, metadata) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = open_beneath(self.root, &path, OFlags::RDONLY).map_err(|error| in_the_way(&path, error))?;
            self.set(&directory, &path, &metadata)?;
        }
        Ok(())
    }

    /// Sets what an entry says of a file that is open. The owner comes first: changing it takes setuid and capabilities away.
    fn set(&mut self, file: &OwnedFd, path: &[u8], metadata: &Metadata) -> Result<(), Error> {
        let mode = self.mode(metadata);
        // Most files are made as they are to be, and every change is a transaction of the file system's journal.
        let stat = rustix::fs::fstat(file).map_err(|error| Error::file("look at", path, error))?;
        let owner = self.owner(metadata).filter(|owner| *owner != (stat.st_uid, stat.st_gid));
        if let Some((uid, gid)) = owner {
            give_to(file, uid, gid).map_err(|error| Error::file("set the owner of", path, error))?;
        }
        if owner.is_some() || Mode::from_raw_mode(stat.st_mode) != mode {
            rustix::fs::fchmod(file, mode).map_err(|error| Error::file("set the permissions of", path, error))?;
        }
        self.set_attributes(&Place::Open(file), path, metadata)?;
        futimens(file, &times(metadata)).map_err(|error| Error::file("set the time of", path, error))
    }

    /// The same of a file that cannot or should not be opened, by a descriptor that stands for it.
    fn set_named(&mut self, file: &OwnedFd, path: &[u8], metadata: &Metadata, is_link: bool) -> Result<(), Error> {
        if let Some((uid, gid)) = self.owner(metadata) {
            give_to(file, uid, gid).map_err(|error| Error::file("set the owner of", path, error))?;
        }
        let place = Place::Named(file);
        if !is_link {
            let mode = self.mode(metadata);
            place.set_mode(mode).map_err(|error| Error::file("set the permissions of", path, error))?;
        }
        self.set_attributes(&place, path, metadata)?;
        rustix::fs::utimensat(file, c"", &times(metadata), AtFlags::EMPTY_PATH)
            .map_err(|error| Error::file("set the time of", path, error))
    }

    fn mode(&mut self, metadata: &Metadata) -> Mode {
        const SETUID_OR_SETGID: u16 = 0o6000;
        let mut mode = metadata.mode;
        if mode & SETUID_OR_SETGID != 0 && !self.options.special_bits {
            self.unpacked.stripped_modes += 1;
            mode &= !SETUID_OR_SETGID;
        }
        Mode::from_raw_mode(mode.into())
    }

    /// Whose a file will be, if not the caller's.
    fn owner(&self, metadata: &Metadata) -> Option<(u32, u32)> {
        match self.options.ownership {
            Ownership::Caller => None,
            Ownership::Archive => Some((metadata.uid, metadata.gid)),
            Ownership::As { uid, gid } => Some((uid, gid)),
        }
    }

    fn set_attributes<F: AsFd>(&mut self, place: &Place<F>, path: &[u8], metadata: &Metadata) -> Result<(), Error> {
        for (name, value) in &metadata.xattrs {
            let granted = self.options.all_attributes || name.starts_with(b"user.");
            match if granted { place.set(name, value) } else { Err(Errno::OPNOTSUPP) } {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => self.unpacked.skipped_attributes += 1,
                Err(error) => return Err(Error::file("set an extended attribute of", path, error)),
            }
        }
        Ok(())
    }
}

fn give_to(file: &OwnedFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    // The highest number means that nothing changes.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    chownat(file, c"", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
}

fn times(metadata: &Metadata) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: metadata.mtime, tv_nsec: metadata.mtime_nanos.into() },
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64, path: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(count) => (bytes, at) = (&bytes[count..], at + count as u64),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::file("write", path, error)),
        }
    }
    Ok(())
}

/// A path from names; that of the root itself from none.
fn joined(names: &[&[u8]]) -> Vec<u8> {
    if names.is_empty() { b".".to_vec() } else { names.join(&b'/') }
}

/// Why a directory on the way to an entry, or the entry itself, cannot be a directory.
fn in_the_way(path: &[u8], error: Errno) -> Error {
    let reason = match error {
        Errno::LOOP | Errno::XDEV => "a symbolic link is where the archive has a directory",
        Errno::NOTDIR => "a file is where the archive has a directory",
        error => return Error::file("unpack", path, error),
    };
    Error::Conflict { path: crate::printable(path), reason }
}
