//! What is written down of a template, and whether its files are still what was written down.

use super::memory;
use super::shape::Shape;
use super::summary::MemoryPlace;
use super::{Error, Result};
use crate::engine::Frozen;
use crate::kernel::hexadecimal;
use crate::probe::boot_id;
use microagent_checkpoint::Checkpoint;
use microagent_protocol::Hello;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The record of a template, in its directory.
pub(super) const RECORD: &str = "record.json";
/// The frozen machine, in its directory.
pub(super) const STATE: &str = "state";

const VERSION: u32 = 1;

/// What a machine touches of RAM that the frozen one had not touched becomes part of a file on tmpfs, though it is mapped privately. A
/// template that has come to hold that much memory of no content is made anew.
const MAX_GROWTH: u64 = 128 << 20;

/// Most bytes of a record, and of a state, that are read: many times what is written.
const MAX_RECORD: u64 = 64 << 10;
const MAX_STATE: u64 = 64 << 20;

/// What is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    pub(super) shape: Shape,
    hello: Hello,
    monotonic_ns: u64,
    state_sha256: String,
    pub(super) memory: FileRecord,
    /// The engine, where it was checkpointed after a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<CheckpointRecord>,
    /// In seconds since the Unix epoch.
    pub(super) made_at: u64,
}

/// A checkpoint of the engine. It is of use for as long as the host is up: it has the kernel's own code mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckpointRecord {
    /// Of the host's boot.
    pub(super) boot_id: String,
    pub(super) plan: FileRecord,
    pub(super) memory: FileRecord,
}

/// A file that holds RAM of the guest or memory of the engine. It is too large to be hashed whenever it is used. But whoever changes a
/// file changes its times, and the time of the last change cannot be set back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRecord {
    pub(super) place: MemoryPlace,
    /// Its name there.
    pub(super) name: String,
    device: u64,
    inode: u64,
    size: u64,
    /// What it took, in bytes, when it was written.
    taken: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Just the version: a newer record has fields that are not known here, and the version is the truer complaint.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    pub(super) fn new(
        shape: Shape,
        frozen: Frozen,
        state: &File,
        (memory, checkpoint): (FileRecord, Option<CheckpointRecord>),
        made_at: u64,
    ) -> io::Result<Record> {
        let state_sha256 = digest(state)?;
        Ok(Record {
            version: VERSION,
            shape,
            hello: frozen.hello,
            monotonic_ns: frozen.monotonic_ns,
            state_sha256,
            memory,
            checkpoint,
            made_at,
        })
    }

    /// Reads a record, and returns its file too. The other kind of error is why it is not to be trusted.
    pub(super) fn load(directory: &Path) -> io::Result<Result<(Record, File), String>> {
        let file = open(&directory.join(RECORD))?;
        if let Err(why) = check_owner(&file.metadata()?) {
            return Ok(Err(format!("its record {why}")));
        }
        let mut bytes = Vec::new();
        (&file).take(MAX_RECORD).read_to_end(&mut bytes)?;
        Ok(match parse(&bytes) {
            Ok(record) => Ok((record, file)),
            Err(why) => Err(why),
        })
    }

    /// Writes the record into a directory that nobody looks into yet.
    pub(super) fn store(&self, directory: &Path) -> Result<()> {
        let path = directory.join(RECORD);
        let bytes = serde_json::to_vec_pretty(self).expect("a record has only string keys");
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&bytes)).map_err(Error::io("write", &path))
    }

    pub(super) fn frozen(&self) -> Frozen {
        Frozen { hello: self.hello.clone(), monotonic_ns: self.monotonic_ns }
    }

    /// Opens the state in `directory`, if it is what was written.
    pub(super) fn open_state(&self, directory: &Path) -> Result<File, String> {
        let file = open(&directory.join(STATE)).map_err(|error| format!("its state cannot be opened: {error}"))?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        check_owner(&metadata).map_err(|why| format!("its state {why}"))?;
        match digest(&file) {
            Ok(digest) if digest == self.state_sha256 => Ok(file),
            Ok(_) => Err("its state has changed since it was written".to_owned()),
            Err(error) => Err(format!("its state cannot be read: {error}")),
        }
    }

    /// Opens the RAM, if it is what was written.
    pub(super) fn open_memory(&self, directory: &Path) -> Result<File, String> {
        self.memory.open(directory).map_err(|why| format!("its memory {why}"))
    }

    /// Whether there is room for what a machine touches of RAM that was never touched before, where that is on tmpfs. A machine that finds
    /// none when it needs it dies.
    pub(super) fn check_room(&self) -> Result<(), String> {
        match self.memory.place {
            MemoryPlace::Tmpfs => {
                memory::check_room(&memory::tmpfs_directory(), self.memory.size.saturating_sub(self.memory.taken))
            }
            MemoryPlace::Disk => Ok(()),
        }
    }

    /// Opens the checkpoint of the engine, if there is one, and if it is what was written. A guest that has rehearsed goes on with its own
    /// engine or not at all.
    pub(super) fn open_checkpoint(&self, directory: &Path) -> Result<Option<Checkpoint>, String> {
        let Some(record) = &self.checkpoint else { return Ok(None) };
        if boot_id().as_ref() != Some(&record.boot_id) {
            return Err("the host has been booted since its engine was checkpointed".to_owned());
        }
        let open = |file: &FileRecord| file.open(directory).map_err(|why| format!("its engine's checkpoint {why}"));
        Ok(Some(Checkpoint { plan: open(&record.plan)?, memory: open(&record.memory)? }))
    }

    /// Where the RAM of the template in `directory` is.
    fn memory_path(&self, directory: &Path) -> PathBuf {
        self.memory.path(directory)
    }

    /// All files of the template in `directory` that are too large for it to be copied.
    pub(super) fn large_files(&self, directory: &Path) -> Vec<PathBuf> {
        let checkpoint = self.checkpoint.iter().map(|checkpoint| checkpoint.memory.path(directory));
        std::iter::once(self.memory_path(directory)).chain(checkpoint).collect()
    }
}

impl FileRecord {
    pub(super) fn of(place: MemoryPlace, name: String, file: &Metadata) -> FileRecord {
        FileRecord {
            place,
            name,
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            taken: file.blocks() * 512,
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Opens the file, of the template in `directory`, if it is what was written.
    fn open(&self, directory: &Path) -> Result<File, String> {
        let file = open(&self.path(directory)).map_err(|error| format!("cannot be opened: {error}"))?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        check_owner(&metadata)?;
        let found = FileRecord::of(self.place, self.name.clone(), &metadata);
        let growth = found.taken.saturating_sub(self.taken);
        if self.place == MemoryPlace::Tmpfs && growth > MAX_GROWTH {
            return Err(format!("has grown by {} MiB", growth >> 20));
        }
        if (FileRecord { taken: self.taken, ..found }) == *self {
            Ok(file)
        } else {
            Err("has changed since it was written".to_owned())
        }
    }

    fn path(&self, directory: &Path) -> PathBuf {
        match self.place {
            MemoryPlace::Tmpfs => memory::tmpfs_directory().join(&self.name),
            MemoryPlace::Disk => directory.join(&self.name),
        }
    }

    fn names_a_file(&self) -> bool {
        !(self.name.is_empty() || self.name.contains('/') || self.name.starts_with('.'))
    }
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    let invalid = |error: serde_json::Error| format!("its record cannot be read: {error}");
    let Versioned { version } = serde_json::from_slice(bytes).map_err(invalid)?;
    if version != VERSION {
        return Err(format!("its record has version {version}, not {VERSION}"));
    }
    let record: Record = serde_json::from_slice(bytes).map_err(invalid)?;
    let checkpoint = record.checkpoint.iter().flat_map(|checkpoint| [&checkpoint.plan, &checkpoint.memory]);
    if !std::iter::once(&record.memory).chain(checkpoint).all(FileRecord::names_a_file) {
        return Err("its record names no file for its memory".to_owned());
    }
    Ok(record)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()).open(path)
}

/// Only we may have written it.
fn check_owner(file: &Metadata) -> Result<(), &'static str> {
    if !file.is_file() {
        return Err("is not a file");
    }
    if file.uid() != rustix::process::geteuid().as_raw() {
        return Err("belongs to somebody else");
    }
    if file.mode() & 0o022 != 0 { Err("can be written by others") } else { Ok(()) }
}

/// Reads by position: who reads the file next begins at its beginning.
fn digest(file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    if length > MAX_STATE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(hexadecimal(&Sha256::digest(&bytes)))
}
