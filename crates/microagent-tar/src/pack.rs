//! Files into an archive.
//!
//! A tree is read as it is found: what disappears meanwhile is left out, what changes meanwhile is sent with the size it had when it was
//! opened. Names in a directory are taken in order, so that equal trees make equal archives.

use crate::attributes::{AttributeReader, Place, stand_for};
use crate::limits::{Limits, check};
use crate::{Error, Kind, Metadata, Writer};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, StatFs, fstat, fstatfs, openat, statat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names of a directory that are read at once.
const LISTING: usize = 32 << 10;

/// File systems that show the kernel's own state as files (`include/uapi/linux/magic.h`): to read them can do things, and nobody
/// who copies a tree means them.
const KERNELS_OWN: [u32; 13] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6165_676c, // pstore
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x4249_4e4d, // binfmt_misc
];

/// Where device files are. The file system there looks like any other in memory.
const DEVICES: &CStr = c"/dev";

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Sockets, which archives cannot hold.
    pub skipped_sockets: u64,
}

/// Writes the file or tree at `path` to `output` as an archive in which it is called `name`; `.` stands for what is in a directory without
/// the directory itself. A symbolic link is packed as a link, `path` itself only if it is not to be followed.
pub fn pack(path: &Path, name: &[u8], follow: bool, output: impl Write) -> Result<Packed, Error> {
    let shown = path.as_os_str().as_bytes();
    let mut packer = Packer::new(output, |_| true);
    let system = |error: Errno| Error::file("look at", shown, error);
    let at = CString::new(shown).map_err(|_| system(Errno::INVAL))?;
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat = statat(CWD, &at, flags).map_err(system)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let unpackable = |reason| Error::Unpackable { path: crate::printable(shown), reason };
    if kind == FileType::Socket {
        return Err(unpackable("it is a socket"));
    }
    if kind != FileType::Directory && name == b"." {
        return Err(unpackable("it is not a directory and has no contents of its own"));
    }
    let around = stand_for_any(&at, follow).map_err(system)?;
    if is_kernels_own(around.as_fd(), &stat) {
        return Err(unpackable("it is one of the kernel's own files, which have no size; read it with a command"));
    }
    let reached = Reached { at: CWD, name: &at, follow };
    if name == b"." {
        let directory = reached.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(system)?;
        packer.add_contents(&directory, b"", 0)?;
        return packer.finish().map(|(packed, _)| packed);
    }
    match packer.add(&reached, name, kind)? {
        Some(directory) => packer.add_contents(&directory, &[name, b"/"].concat(), 1)?,
        None if packer.packed.entries == 0 => return Err(system(Errno::NOENT)),
        None => {}
    }
    packer.finish().map(|(packed, _)| packed)
}

fn stand_for_any(path: &CStr, follow: bool) -> rustix::io::Result<OwnedFd> {
    if follow {
        openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    } else {
        stand_for(CWD, path.to_bytes())
    }
}

/// How a file is found.
struct Reached<'r> {
    at: BorrowedFd<'r>,
    name: &'r CStr,
    follow: bool,
}

impl Reached<'_> {
    fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let no_link = if self.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        // Should a pipe or terminal have taken the file's place, nothing waits for it and it does not become ours.
        let harmless = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(self.at, self.name, flags | no_link | harmless, Mode::empty())
    }

    fn stat(&self) -> rustix::io::Result<Stat> {
        statat(self.at, self.name, if self.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW })
    }
}

/// Makes an archive of files, one at a time.
pub struct Packer<W> {
    writer: Writer<W>,
    attributes: AttributeReader,
    wanted: fn(&[u8]) -> bool,
    /// Names of files that have more than one, by device and inode.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    limits: Limits,
    packed: Packed,
}

impl<W: Write> Packer<W> {
    /// Writes to `output`. Extended attributes are packed if `wanted` is true of their name.
    pub fn new(output: W, wanted: fn(&[u8]) -> bool) -> Self {
        let (writer, attributes) = (Writer::new(output), AttributeReader::default());
        let (links, limits, packed) = (BTreeMap::new(), Limits::default(), Packed::default());
        Packer { writer, attributes, wanted, links, limits, packed }
    }

    /// Packs the file called `name` in the directory `at`, and not what is in it, as `path`.
    pub fn add_one(&mut self, at: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<(), Error> {
        let reached = Reached { at, name, follow: false };
        let kind = match reached.stat() {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(Error::file("look at", path, error)),
        };
        self.add(&reached, path, kind).map(drop)
    }

    /// Packs an empty file that means something by its name.
    pub fn add_mark(&mut self, path: &[u8]) -> Result<(), Error> {
        self.entry(path, Kind::File(0), &Metadata::default())
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<(Packed, W), Error> {
        Ok((self.packed, self.writer.finish()?))
    }

    /// Packs one file, which was of that kind when it was listed. A directory is returned for what is in it.
    fn add(&mut self, reached: &Reached<'_>, path: &[u8], kind: FileType) -> Result<Option<OwnedFd>, Error> {
        let opened = match kind {
            FileType::Directory => self.add_directory(reached, path).map(Some),
            FileType::RegularFile => self.add_file(reached, path).map(|()| None),
            _ => self.add_other(reached, path).map(|()| None),
        };
        match opened {
            // It is gone, or another kind of file now.
            Err(Error::File { source, .. })
                if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
                    .contains(&Errno::from_io_error(&source).unwrap_or(Errno::IO)) =>
            {
                Ok(None)
            }
            opened => opened,
        }
    }

    fn add_directory(&mut self, reached: &Reached<'_>, path: &[u8]) -> Result<OwnedFd, Error> {
        let failed = |error| Error::file("read", path, error);
        let directory = reached.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let stat = fstat(&directory).map_err(failed)?;
        let metadata = self.metadata(&stat, &Place::Open(&directory), path)?;
        self.entry(&[path, b"/"].concat(), Kind::Directory, &metadata)?;
        Ok(directory)
    }

    fn add_file(&mut self, reached: &Reached<'_>, path: &[u8]) -> Result<(), Error> {
        let failed = |error| Error::file("read", path, error);
        let file = reached.open(OFlags::RDONLY).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let metadata = self.metadata(&stat, &Place::Open(&file), path)?;
        if self.add_link(&stat, path, &metadata)? {
            return Ok(());
        }
        let size = stat.st_size.cast_unsigned();
        self.entry(path, Kind::File(size), &metadata)?;
        self.packed.bytes += size;
        self.writer.data_of(&file, size, path)
    }

    fn add_other(&mut self, reached: &Reached<'_>, path: &[u8]) -> Result<(), Error> {
        let failed = |error| Error::file("look at", path, error);
        let file = if reached.follow {
            openat(reached.at, reached.name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        } else {
            stand_for(reached.at, reached.name.to_bytes())
        };
        let file = file.map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        let metadata = self.metadata(&stat, &Place::Named(&file), path)?;
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let target;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                target = rustix::fs::readlinkat(&file, c"", Vec::new()).map_err(failed)?;
                Kind::Symlink(target.as_bytes())
            }
            FileType::CharacterDevice => Kind::CharDevice(major, minor),
            FileType::BlockDevice => Kind::BlockDevice(major, minor),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => {
                self.packed.skipped_sockets += 1;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if self.add_link(&stat, path, &metadata)? { Ok(()) } else { self.entry(path, kind, &metadata) }
    }

    /// Packs a file that was packed under another name as a link to that. False if it was not.
    fn add_link(&mut self, stat: &Stat, path: &[u8], metadata: &Metadata) -> Result<bool, Error> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
            // What else there is to say was said there.
            let plain = Metadata { xattrs: BTreeMap::new(), ..metadata.clone() };
            self.packed.entries += 1;
            return self.writer.entry(path, Kind::HardLink(first), &plain).map(|()| true);
        }
        self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        Ok(false)
    }

    /// Packs what is in a directory, and everything below.
    fn add_contents(&mut self, directory: &OwnedFd, prefix: &[u8], depth: u64) -> Result<(), Error> {
        let shown = prefix.strip_suffix(b"/").unwrap_or(b".");
        check("path_depth", depth + 1, self.limits.path_depth)?;
        let parent = fstat(directory).map_err(|error| Error::file("read", shown, error))?;
        let names = match list(directory) {
            // It was removed while it was open.
            Err(Errno::NOENT) => return Ok(()),
            listed => listed.map_err(|error| Error::file("list", shown, error))?,
        };
        for (name, kind) in names {
            let path = [prefix, name.as_bytes()].concat();
            let reached = Reached { at: directory.as_fd(), name: &name, follow: false };
            let kind = match kind {
                FileType::Unknown => match reached.stat() {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(Error::file("look at", &path, error)),
                },
                kind => kind,
            };
            if kind == FileType::Directory && leads_to_kernels_own(&reached, &parent) {
                continue;
            }
            if let Some(child) = self.add(&reached, &path, kind)? {
                self.add_contents(&child, &[&path, &b"/"[..]].concat(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn metadata<F: AsFd>(&mut self, stat: &Stat, place: &Place<F>, path: &[u8]) -> Result<Metadata, Error> {
        let xattrs = self
            .attributes
            .read(place, self.wanted)
            .map_err(|error| Error::file("read the extended attributes of", path, error))?;
        Ok(Metadata {
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            mtime_nanos: stat.st_mtime_nsec as u32,
            xattrs,
        })
    }

    fn entry(&mut self, path: &[u8], kind: Kind<'_>, metadata: &Metadata) -> Result<(), Error> {
        self.packed.entries += 1;
        self.writer.entry(path, kind, metadata)
    }
}

/// The names in a directory and what they stand for, in order.
fn list(directory: &OwnedFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); LISTING];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(names)
}

fn leads_to_kernels_own(reached: &Reached<'_>, parent: &Stat) -> bool {
    let Ok(place) = stand_for(reached.at, reached.name.to_bytes()) else { return false };
    fstat(&place).is_ok_and(|stat| stat.st_dev != parent.st_dev && is_kernels_own(place.as_fd(), &stat))
}

/// Whether a file is in one of the kernel's own file systems.
fn is_kernels_own(place: BorrowedFd<'_>, stat: &Stat) -> bool {
    let device = |path: &CStr| statat(CWD, path, AtFlags::empty()).map(|stat| stat.st_dev);
    let magic = |file_system: StatFs| u32::try_from(file_system.f_type).is_ok_and(|magic| KERNELS_OWN.contains(&magic));
    let is_device_file = || device(DEVICES) == Ok(stat.st_dev) && device(c"/") != Ok(stat.st_dev);
    fstatfs(place).is_ok_and(magic) || is_device_file()
}
