//! A template that is being made.

use super::lock::Lock;
use super::memory::{self, Memory, copy_sparse};
use super::record::{CheckpointRecord, FileRecord, Record, STATE};
use super::shape::Shape;
use super::store::TemplateStore;
use super::summary::MemoryPlace;
use super::{Error, Result};
use crate::engine::{Frozen, Restore};
use crate::probe::boot_id;
use microagent_checkpoint::Checkpoint;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names of files where they are in the template's directory.
const MEMORY: &str = "memory";
const ENGINE_MEMORY: &str = "engine";
const PLAN: &str = "plan";

/// A template that is being made, by whoever holds this. Dropping it leaves nothing.
#[derive(Debug)]
pub struct Making {
    store: TemplateStore,
    shape: Shape,
    directory: Option<PathBuf>,
    memory: Memory,
    checkpoint: Option<Rehearsed>,
    state: File,
    /// The same file, with a position of its own.
    reading: File,
    note: Option<String>,
    /// Given up last.
    _lock: Lock,
}

/// The files of an engine that is to be checkpointed.
#[derive(Debug)]
struct Rehearsed {
    files: Checkpoint,
    memory: Memory,
}

impl Making {
    pub(super) fn begin(store: &TemplateStore, shape: &Shape, lock: Lock) -> Result<Making> {
        let key = shape.key();
        let directory = store.new_directory(&key);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &directory)(error));
            }
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&directory).map_err(Error::io("create", &directory))?;
        let begin = || {
            let bytes = u64::from(shape.hardware.memory_mib) << 20;
            let owner = (store.path(), key.as_str());
            let (memory, note) = Memory::create(store.memory(), bytes, owner, directory.join(MEMORY))?;
            let path = directory.join(STATE);
            let state = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let state = state.and_then(|state| Ok((state, File::open(&path)?)));
            Ok((memory, note, state.map_err(Error::io("create", &path))?))
        };
        let (memory, note, (state, reading)) = begin().inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        let (store, shape, directory) = (store.clone(), shape.clone(), Some(directory));
        Ok(Making { store, shape, directory, memory, checkpoint: None, state, reading, note, _lock: lock })
    }

    /// The file that is to be the RAM of the machine.
    pub fn memory(&self) -> &File {
        &self.memory.file
    }

    /// The file that the rest of the machine is to be written to.
    pub fn state(&self) -> &File {
        &self.state
    }

    /// Copies what was written to [`Making::state`] to a new file.
    pub fn copy_state(&self, path: &Path) -> Result<()> {
        let copy = || {
            let mut bytes = vec![0; self.reading.metadata()?.len() as usize];
            self.reading.read_exact_at(&mut bytes, 0)?;
            let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all_at(&bytes, 0)
        };
        copy().map_err(Error::io("copy the state to", path))
    }

    /// What to give to [`Engine::restore`](crate::engine::Engine::restore) for the first machine of this template. It gets ready while the
    /// template is being made.
    pub fn restore(&self) -> Restore<'_> {
        Restore {
            memory: &self.memory.file,
            state: &self.reading,
            frozen: None,
            checkpoint: None,
            with_disks: self.shape.is_capture(),
        }
    }

    /// The same, of a template whose engine was checkpointed.
    pub fn restore_rehearsed(&self) -> Restore<'_> {
        Restore { checkpoint: self.checkpoint(), ..self.restore() }
    }

    /// Begins with the RAM of another template.
    pub(super) fn copy_memory(&self, from: &File) -> Result<()> {
        copy_sparse(from, &self.memory.file).map_err(Error::io("copy the memory of a template to", self.store.path()))
    }

    /// Makes room for a checkpoint of the engine. Copies of the engine run code that lies in
    /// it, so it must not be where the file system forbids that.
    pub fn keep_engine(&mut self) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let (place, key) = (self.store.memory(), self.shape.key());
        let place = if memory::tmpfs_runs_code() { place } else { MemoryPlace::Disk };
        let owner = (self.store.path(), key.as_str());
        let (memory, _) = Memory::create(place, 0, owner, directory.join(ENGINE_MEMORY))?;
        let plan = directory.join(PLAN);
        let plan = File::options().read(true).write(true).create_new(true).mode(0o600).open(&plan);
        let files = plan.and_then(|plan| Ok(Checkpoint { plan, memory: memory.file.try_clone()? }));
        let files = files.map_err(Error::io("create a checkpoint in", directory))?;
        self.checkpoint = Some(Rehearsed { files, memory });
        Ok(())
    }

    /// Does without a checkpoint of the engine after all.
    pub fn forget_engine(&mut self) {
        self.checkpoint = None;
        if let Some(directory) = &self.directory {
            let _ = fs::remove_file(directory.join(PLAN));
        }
    }

    /// The files that a rehearsed engine is to be checkpointed to, where it is.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().map(|rehearsed| &rehearsed.files)
    }

    /// What is less than it could be about this template.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// A place for a file that goes when the template is published or given up.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.directory.as_deref().unwrap_or(Path::new("/")).join(name)
    }

    /// Makes the template one that can be found, when the machine has been frozen and its engine has ended. What was kept too long goes.
    ///
    /// Nothing but RAM on disk is flushed. A record or a state that does not survive a crash of the host is noticed by its content; RAM
    /// would not be.
    pub fn publish(mut self, frozen: Frozen) -> Result<()> {
        let Some(directory) = self.directory.clone() else { return Ok(()) };
        let key = self.shape.key();
        if self.memory.place == MemoryPlace::Disk {
            self.memory.file.sync_all().map_err(Error::io("write", &directory))?;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if ![STATE, MEMORY, ENGINE_MEMORY, PLAN].iter().any(|kept| entry.file_name() == *kept) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let files = self.describe().map_err(Error::io("look at the memory in", &directory))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let record = Record::new(self.shape.clone(), frozen, &self.reading, files, now);
        record.map_err(Error::io("read the state in", &directory))?.store(&directory)?;
        self.store.put(&key, &directory)?;
        self.memory.publish();
        self.checkpoint.iter_mut().for_each(|rehearsed| rehearsed.memory.publish());
        self.directory = None;
        self.store.evict(&key);
        Ok(())
    }

    fn describe(&self) -> io::Result<(FileRecord, Option<CheckpointRecord>)> {
        let describe = |memory: &Memory| {
            Ok::<_, io::Error>(FileRecord::of(memory.place, memory.name.clone(), &memory.file.metadata()?))
        };
        let checkpoint = match &self.checkpoint {
            None => None,
            Some(rehearsed) => Some(CheckpointRecord {
                boot_id: boot_id().unwrap_or_default(),
                plan: FileRecord::of(MemoryPlace::Disk, PLAN.to_owned(), &rehearsed.files.plan.metadata()?),
                memory: describe(&rehearsed.memory)?,
            }),
        };
        Ok((describe(&self.memory)?, checkpoint))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir_all(directory);
        }
    }
}
