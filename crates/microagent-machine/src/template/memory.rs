//! Where the RAM of templates is kept.
//!
//! On tmpfs it is memory once, for all machines restored from it, and costs nothing to write. Where tmpfs has no room it is a file in the
//! template's directory, which the page cache shares as well; but it has to be written out, and read again after a while.
//!
//! Beside each file on tmpfs lies the record of its owner. What a crash leaves there is found by that record: nobody refers to it, and
//! nobody holds it.

use super::lock;
use super::record::{RECORD, Record};
use super::shape::is_key;
use super::summary::MemoryPlace;
use super::{Error, Result};
use rustix::fs::{Mode, OFlags, SeekFrom, StatVfsMountFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const TMPFS: &str = "/dev/shm";
/// `TMPFS_MAGIC` in `linux/magic.h`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

const OWNER_VERSION: u32 = 1;

/// Most bytes of an owner's record that are read.
const MAX_OWNER: u64 = 16 << 10;

/// Times its size that must be free before RAM is put on tmpfs: a template must not be what fills the host's memory.
const ROOM: u64 = 2;

/// RAM of a template that is being made. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) file: File,
    pub(super) place: MemoryPlace,
    pub(super) name: String,
    path: PathBuf,
    /// Locked for as long as no record refers to the file.
    owner: Option<(File, PathBuf)>,
    published: bool,
}

/// Whose a file on tmpfs is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    version: u32,
    /// The directory of the templates.
    templates: PathBuf,
    /// The template among them.
    key: String,
}

/// The directory of this user's files on tmpfs.
pub(super) fn tmpfs_directory() -> PathBuf {
    Path::new(TMPFS).join(format!("microagent-{}", rustix::process::geteuid().as_raw()))
}

impl Memory {
    /// An empty file of `bytes`, at `wanted` if there is room; else on disk, as `path`, with the reason.
    pub(super) fn create(
        wanted: MemoryPlace,
        bytes: u64,
        (templates, key): (&Path, &str),
        path: PathBuf,
    ) -> Result<(Memory, Option<String>)> {
        let mut why = None;
        if wanted == MemoryPlace::Tmpfs {
            match Memory::on_tmpfs(bytes, templates, key) {
                Ok(memory) => return Ok((memory, None)),
                Err(reason) => why = Some(format!("the template's memory is on disk: {reason}")),
            }
        }
        let file = create_new(&path).and_then(|file| file.set_len(bytes).map(|()| file));
        let file = file.map_err(Error::io("create", &path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((Memory { file, place: MemoryPlace::Disk, name, path, owner: None, published: false }, why))
    }

    fn on_tmpfs(bytes: u64, templates: &Path, key: &str) -> Result<Memory, String> {
        let directory = tmpfs_directory();
        check_tmpfs(&directory)?;
        check_room(&directory, bytes.saturating_mul(ROOM))?;
        let failed = |error: io::Error| format!("cannot write to `{}`: {error}", directory.display());
        let mut unique = [0; 4];
        getrandom::fill(&mut unique).map_err(|error| failed(io::Error::other(error)))?;
        let name = format!("{key}-{:08x}", u32::from_ne_bytes(unique));
        let path = directory.join(&name);
        let owner_path = path.with_added_extension("json");
        let mut owner = create_new(&owner_path).map_err(failed)?;
        // Until it is locked, it looks like one that is left over, and may be swept away.
        if !lock::lock(&owner).map_err(failed)? || owner.metadata().map_err(failed)?.nlink() == 0 {
            return Err(format!("`{}` is being swept", directory.display()));
        }
        let record = Owner { version: OWNER_VERSION, templates: templates.to_owned(), key: key.to_owned() };
        let json = serde_json::to_vec(&record).expect("an owner has only string keys");
        owner.write_all(&json).map_err(failed)?;
        let file = create_new(&path).and_then(|file| file.set_len(bytes).map(|()| file)).map_err(failed)?;
        let owner = Some((owner, owner_path));
        Ok(Memory { file, place: MemoryPlace::Tmpfs, name, path, owner, published: false })
    }

    /// Keeps the file: from now on a record refers to it.
    pub(super) fn publish(&mut self) {
        self.published = true;
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
            if let Some((_, owner)) = &self.owner {
                let _ = fs::remove_file(owner);
            }
        }
    }
}

/// Removes RAM that a record in `templates` refers to, unless it is the RAM of the directory that this one is a copy of. Machines that
/// have it mapped keep it.
pub(super) fn remove(path: &Path, templates: &Path) {
    let owner_path = path.with_added_extension("json");
    let owner = fs::read(&owner_path).ok().and_then(|bytes| serde_json::from_slice::<Owner>(&bytes).ok());
    if owner.is_none_or(|owner| owner.templates == templates) {
        remove_both(path, &owner_path);
    }
}

/// In this order: a file that is left over can be told by its owner.
fn remove_both(path: &Path, owner: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_file(owner);
}

/// Removes what is on tmpfs and belongs to no template of any state directory. Returns the bytes freed.
pub(super) fn sweep() -> u64 {
    let directory = tmpfs_directory();
    if verify(&directory).is_err() {
        return 0;
    }
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    let owners = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "json"));
    owners.map(|owner| sweep_one(&owner)).sum()
}

fn sweep_one(owner_path: &Path) -> u64 {
    let options = OFlags::NOFOLLOW.bits().cast_signed();
    let Ok(file) = File::options().read(true).custom_flags(options).open(owner_path) else { return 0 };
    if !matches!(lock::lock(&file), Ok(true)) {
        return 0;
    }
    let mut bytes = Vec::new();
    let owner = file.take(MAX_OWNER).read_to_end(&mut bytes).map(|_| serde_json::from_slice::<Owner>(&bytes));
    let memory = owner_path.with_extension("");
    if matches!(&owner, Ok(Ok(owner)) if owner.version > OWNER_VERSION || refers_to(owner, &memory)) {
        return 0;
    }
    let freed = fs::symlink_metadata(&memory).map_or(0, |file| file.blocks() * 512);
    remove_both(&memory, owner_path);
    freed
}

/// Whether the template of that owner is the one that `memory` belongs to.
fn refers_to(owner: &Owner, memory: &Path) -> bool {
    if !is_key(&owner.key) {
        return false;
    }
    let directory = owner.templates.join(&owner.key);
    match Record::load(&directory) {
        Ok(Ok((record, _))) => record.large_files(&directory).iter().any(|file| file == memory),
        // A record that cannot be read now may be readable to its owner; one that is not there refers to nothing.
        Ok(Err(_)) => directory.join(RECORD).exists(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Makes the directory if it is not there, and makes sure that it is ours alone and in memory.
fn check_tmpfs(directory: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("cannot make `{}`: {error}", directory.display()));
        }
        _ => {}
    }
    verify(directory)
}

fn verify(directory: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot use `{}`: {error}", directory.display());
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let file_system = rustix::fs::fstatfs(&opened).map_err(|errno| failed(errno.into()))?;
    if file_system.f_type.cast_unsigned() != TMPFS_MAGIC {
        return Err(format!("`{TMPFS}` is not a tmpfs"));
    }
    let metadata = File::from(opened).metadata().map_err(failed)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(format!("`{}` is not this user's alone", directory.display()));
    }
    Ok(())
}

/// Whether that much is free on tmpfs, and in the host's memory.
pub(super) fn check_room(directory: &Path, needed: u64) -> Result<(), String> {
    let file_system = rustix::fs::statvfs(directory).map_err(|errno| errno.to_string())?;
    if file_system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(format!("`{TMPFS}` is read-only"));
    }
    let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
    if free < needed {
        return Err(format!("`{TMPFS}` has {} MiB free, and {} are wanted", free >> 20, needed >> 20));
    }
    match available_memory() {
        Some(available) if available < needed => {
            Err(format!("the host has {} MiB of memory available, and {} are wanted", available >> 20, needed >> 20))
        }
        _ => Ok(()),
    }
}

/// Whether code can be run from files on tmpfs: containers often forbid it.
pub(super) fn tmpfs_runs_code() -> bool {
    rustix::fs::statvfs(TMPFS).is_ok_and(|tmpfs| !tmpfs.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Copies a file, but not its holes, to one that is all hole.
pub(crate) fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let piece = &mut buffer[..(end - at).min(1 << 20) as usize];
            from.read_exact_at(piece, at)?;
            to.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
    }
    Ok(())
}

/// Memory that can be had without swapping, as the kernel reckons it.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

fn create_new(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}
