//! The directory of templates.

use super::lock::Lock;
use super::making::Making;
use super::memory;
use super::record::Record;
use super::shape::Shape;
use super::summary::MemoryPlace;
use super::{Error, Result};
use crate::engine::{Frozen, Restore};
use crate::probe::boot_id;
use microagent_checkpoint::Checkpoint;
use rustix::fs::{CWD, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The note of a failed rehearsal, in the template's directory.
const NO_REHEARSAL: &str = "no-rehearsal";

/// The templates of one state directory. Opening it touches nothing.
#[derive(Clone, Debug)]
pub struct TemplateStore {
    path: PathBuf,
    memory: MemoryPlace,
}

/// A template, opened and checked: what a machine is restored from. It stays whole when it is removed.
#[derive(Debug)]
pub struct Template {
    key: String,
    frozen: Frozen,
    memory: File,
    state: File,
    checkpoint: Option<Checkpoint>,
    rehearsal_failed: bool,
    is_capture: bool,
}

/// What [`TemplateStore::find`] found.
#[derive(Debug)]
pub enum Found {
    /// A template.
    Template(Template),
    /// None.
    Absent,
    /// One that is good, but not at the moment, and why.
    Unusable(String),
    /// One that is not what was once written, and why.
    Distrusted(String),
}

/// What came of wanting to make a template.
#[derive(Debug)]
pub enum Claim {
    /// It can be made.
    Making(Box<Making>),
    /// Somebody has just made it.
    Made(Template),
    /// Somebody makes it.
    Busy,
}

impl Template {
    /// What to give to [`Engine::restore`](crate::engine::Engine::restore).
    pub fn restore(&self) -> Restore<'_> {
        Restore {
            memory: &self.memory,
            state: &self.state,
            frozen: Some(&self.frozen),
            checkpoint: self.checkpoint.as_ref(),
            with_disks: self.is_capture,
        }
    }

    /// Whether its machine has tried to rehearse since the host was booted, and could not.
    pub fn rehearsal_failed(&self) -> bool {
        self.rehearsal_failed
    }

    /// Whether machines go on from an engine that has rehearsed what machines do.
    pub fn is_rehearsed(&self) -> bool {
        self.checkpoint.is_some()
    }
}

impl TemplateStore {
    /// The templates in `path`. New ones have their RAM at `memory`, if there is room.
    pub fn open(path: impl Into<PathBuf>, memory: MemoryPlace) -> TemplateStore {
        TemplateStore { path: path.into(), memory }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn memory(&self) -> MemoryPlace {
        self.memory
    }

    pub(super) fn directory(&self, key: &str) -> PathBuf {
        self.path.join(key)
    }

    pub(super) fn new_directory(&self, key: &str) -> PathBuf {
        self.path.join(format!(".new-{key}"))
    }

    /// The template of `shape`, if there is one that is what it was when it was made.
    pub fn find(&self, shape: &Shape) -> Found {
        let key = shape.key();
        let identity = || fs::metadata(self.directory(&key)).map(|directory| directory.ino()).ok();
        let before = identity();
        match self.look(&key, shape) {
            // Another has taken its place while it was being opened.
            Found::Distrusted(_) if identity() != before => self.look(&key, shape),
            found => found,
        }
    }

    fn look(&self, key: &str, shape: &Shape) -> Found {
        let directory = self.directory(key);
        let (record, file) = match Record::load(&directory) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(why)) => return Found::Distrusted(why),
            Err(error) if error.kind() == ErrorKind::NotFound && !directory.exists() => return Found::Absent,
            Err(error) => return Found::Distrusted(format!("its record cannot be read: {error}")),
        };
        if record.shape != *shape {
            return Found::Distrusted("its record is of another machine".to_owned());
        }
        let open = || {
            Ok(Template {
                frozen: record.frozen(),
                memory: record.open_memory(&directory)?,
                state: record.open_state(&directory)?,
                checkpoint: record.open_checkpoint(&directory)?,
                rehearsal_failed: failed_rehearsal(&directory).is_some(),
                is_capture: record.shape.is_capture(),
                key: key.to_owned(),
            })
        };
        match open() {
            Ok(template) => {
                if template.checkpoint.is_none()
                    && let Err(why) = record.check_room()
                {
                    return Found::Unusable(why);
                }
                mark_used(&file);
                Found::Template(template)
            }
            Err(why) => Found::Distrusted(why),
        }
    }

    /// Begins the template of `shape`. What is there under its name goes, unless it is good after all.
    pub fn claim(&self, shape: &Shape) -> Result<Claim> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.path).map_err(Error::io("create", &self.path))?;
        let key = shape.key();
        let Some(lock) = self.lock(&key)? else { return Ok(Claim::Busy) };
        if let Found::Template(template) = self.find(shape) {
            return Ok(Claim::Made(template));
        }
        self.remove(&key)?;
        self.sweep_others(&key);
        Ok(Claim::Making(Box::new(Making::begin(self, shape, lock)?)))
    }

    /// Begins a template like `template`, whose machine is to rehearse, and takes its place when it is published.
    /// `None` when somebody makes one already.
    pub fn claim_rehearsal(&self, shape: &Shape, template: &Template) -> Result<Option<Making>> {
        let Some(lock) = self.lock(&template.key)? else { return Ok(None) };
        match self.find(shape) {
            Found::Template(found) if !found.is_rehearsed() => {}
            _ => return Ok(None),
        }
        self.sweep_others(&template.key);
        let mut making = Making::begin(self, shape, lock)?;
        making.copy_memory(&template.memory)?;
        making.keep_engine()?;
        Ok(Some(making))
    }

    /// Takes note that the machine of `template` could not rehearse, so that nobody tries again before the host has been booted.
    pub fn note_failed_rehearsal(&self, template: &Template, why: &str) {
        let note = format!("{}\n{why}\n", boot_id().unwrap_or_default());
        // Without it, it is tried again.
        let _ = fs::write(self.directory(&template.key).join(NO_REHEARSAL), note);
    }

    /// Makes `directory`, which is complete, the template `key`, whose lock is held. One that is there goes.
    pub(super) fn put(&self, key: &str, directory: &Path) -> Result<()> {
        let published = self.directory(key);
        let replaced = Record::load(&published).ok().and_then(std::result::Result::ok);
        match rustix::fs::renameat_with(CWD, directory, CWD, &published, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => return fs::rename(directory, &published).map_err(Error::io("publish", &published)),
            exchanged => exchanged.map_err(|errno| Error::io("publish", &published)(errno.into()))?,
        }
        if let Some((record, _)) = replaced {
            record.large_files(directory).iter().for_each(|file| memory::remove(file, self.path()));
        }
        // What of it stays is swept away with the next template.
        let _ = fs::remove_dir_all(directory);
        Ok(())
    }

    /// Removes a template that turned out not to be good, unless another one has taken its place or is about to.
    pub fn discard(&self, template: &Template) -> Result<()> {
        let Some(_lock) = self.lock(&template.key)? else { return Ok(()) };
        let directory = self.directory(&template.key);
        let same = |file: &File, other: &File| {
            let identity = |file: &File| file.metadata().map(|file| (file.dev(), file.ino())).ok();
            identity(file) == identity(other)
        };
        match Record::load(&directory) {
            Ok(Ok((record, _)))
                if record.open_memory(&directory).is_ok_and(|other| !same(&template.memory, &other)) =>
            {
                Ok(())
            }
            _ => self.remove(&template.key).map(drop),
        }
    }

    /// Removes the template of `shape`, if there is one and nobody makes it anew.
    pub fn forget(&self, shape: &Shape) -> Result<()> {
        let key = shape.key();
        if !self.directory(&key).exists() {
            return Ok(());
        }
        let Some(lock) = self.lock(&key)? else { return Ok(()) };
        self.remove(&key)?;
        let _ = lock.remove();
        Ok(())
    }

    pub(super) fn lock_path(&self, key: &str) -> PathBuf {
        self.path.join(format!("{key}.lock"))
    }

    pub(super) fn lock(&self, key: &str) -> Result<Option<Lock>> {
        let path = self.lock_path(key);
        Lock::acquire(&path).map_err(Error::io("lock", &path))
    }

    /// Removes the template `key`, whose lock is held. Returns the bytes it took; `None` when there is none.
    pub(super) fn remove(&self, key: &str) -> Result<Option<u64>> {
        let directory = self.directory(key);
        let doomed = self.path.join(format!(".doomed-{key}"));
        let _ = fs::remove_dir_all(&doomed);
        let record = Record::load(&directory).ok().and_then(std::result::Result::ok);
        let files = record.map(|(record, _)| record.large_files(&directory)).unwrap_or_default();
        // Out of sight first: a half of a template is nobody's to find.
        match fs::rename(&directory, &doomed) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            renamed => renamed.map_err(Error::io("remove", &directory))?,
        }
        let mut bytes = disk_bytes(&doomed);
        for file in files.iter().filter(|file| !file.starts_with(&directory)) {
            bytes += fs::symlink_metadata(file).map_or(0, |file| file.blocks() * 512);
            memory::remove(file, self.path());
        }
        fs::remove_dir_all(&doomed).map_err(Error::io("remove", &doomed))?;
        Ok(Some(bytes))
    }
}

/// Why the machine of the template in `directory` could not rehearse, if it has tried since the host was booted.
pub(super) fn failed_rehearsal(directory: &Path) -> Option<String> {
    let note = fs::read_to_string(directory.join(NO_REHEARSAL)).ok()?;
    let (boot, why) = note.split_once('\n')?;
    (Some(boot) == boot_id().as_deref()).then(|| why.trim_end().to_owned())
}

/// Blocks in use of the files in `directory`, in bytes.
pub(super) fn disk_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// The time of the last use is the record's time of modification: who is restored, needs no more than one system call for it.
fn mark_used(record: &File) {
    let set = |nanoseconds| Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    // Without it the template goes sooner than it should, and is made again.
    let _ = futimens(record, &Timestamps { last_access: set(UTIME_OMIT), last_modification: set(UTIME_NOW) });
}
