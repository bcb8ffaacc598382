//! The way through the upper directory, with the lower ones alongside.

use super::compare::{Comparison, Lower};
use super::{ITSELF, cannot_read};
use crate::task;
use crate::workspace::{BASE, LAYER};
use microagent_protocol::{ChangeKind, FileKind, Refusal};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, openat, statat};
use rustix::io::{Errno, Result as SystemResult};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::path::Path;

/// Directories one path may pass through, as in every archive.
const MAX_DEPTH: usize = 256;

/// Something the upper directory says.
pub(super) struct Found<'f> {
    /// Where it is, without a slash in front. Empty for the root.
    pub(super) path: &'f [u8],
    /// The upper directory it is in, and its name there.
    pub(super) at: BorrowedFd<'f>,
    pub(super) name: &'f CStr,
    pub(super) what: What,
    /// How it differs from what is below. `None` if it does not.
    pub(super) change: Option<ChangeKind>,
    pub(super) kind: FileKind,
    pub(super) size: u64,
}

/// What the upper directory says of a path.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// It is gone; a layer of the base needs a mark to say so.
    Deleted { needs_mark: bool },
    /// A directory; a layer over the base needs a mark in it, because it hides what the base has there.
    Directory { needs_mark: bool },
    /// Any other file.
    Other,
}

/// Is told what is found, parents before what is in them.
pub(super) type Visit<'v> = dyn FnMut(&Found<'_>) -> Result<(), Refusal> + 'v;

/// One directory in each layer.
pub(super) struct Layers {
    upper: OwnedFd,
    machine: Option<OwnedFd>,
    base: Option<OwnedFd>,
}

impl Layers {
    /// The roots.
    pub(super) fn open(disk: &Path) -> SystemResult<Layers> {
        let open = |path: &Path| openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Layers {
            upper: open(&disk.join("upper"))?,
            machine: Some(open(LAYER.as_ref())?),
            base: Some(open(BASE.as_ref())?),
        })
    }

    fn child(&self, name: &CStr) -> SystemResult<Layers> {
        let lower = |layer: &Option<OwnedFd>| layer.as_ref().and_then(|at| open(at, name).ok());
        let machine = lower(&self.machine);
        // What the machine's layer has instead of a directory hides the base's.
        let hidden = machine.is_none() && self.machine.as_ref().is_some_and(|at| look(at, name).is_ok());
        let base = if hidden { None } else { lower(&self.base) };
        Ok(Layers { upper: open(&self.upper, name)?, machine, base })
    }

    /// What is below the upper layer under that name, and whether the image has it.
    fn lower(&self, name: &CStr) -> Option<(Lower<'_>, bool)> {
        let of = |layer: &Option<OwnedFd>| layer.as_ref().and_then(|at| look(at, name).ok());
        let base = of(&self.base);
        let in_base = base.is_some();
        let (at, stat, is_machines) = match (of(&self.machine), base) {
            // A directory of both has the machine's attributes, which are copies of the base's.
            (Some(machine), Some(base)) if is_directory(&machine) && is_directory(&base) => (&self.base, base, false),
            (Some(machine), _) => (&self.machine, machine, true),
            (None, base) => (&self.base, base?, false),
        };
        Some((Lower { at: at.as_ref()?.as_fd(), stat, is_machines }, in_base))
    }

    fn lower_names(&self) -> SystemResult<Vec<CString>> {
        let mut names = Vec::new();
        for layer in [&self.machine, &self.base].into_iter().flatten() {
            names.extend(list(layer)?);
        }
        Ok(names)
    }
}

/// Visits the root and all below.
pub(super) fn walk(layers: &Layers, visit: &mut Visit<'_>) -> Result<(), Refusal> {
    let mut walker = Walker { comparison: Comparison::default(), visit };
    let stat = look(&layers.upper, ITSELF).map_err(|error| cannot_read(b"", error))?;
    walker.directory(layers, ITSELF, b"", &stat, false)?;
    walker.contents(layers, b"", false, 0)
}

struct Walker<'w, 'v> {
    comparison: Comparison,
    visit: &'w mut Visit<'v>,
}

impl Walker<'_, '_> {
    /// Visits what is in a directory. `hides` is true in and below one that hides what lower layers have there.
    fn contents(&mut self, layers: &Layers, prefix: &[u8], hides: bool, depth: usize) -> Result<(), Refusal> {
        let failed = |error| cannot_read(prefix, error);
        if depth > MAX_DEPTH {
            return Err(failed(Errno::NAMETOOLONG));
        }
        let mut names = match list(&layers.upper) {
            // The directory is gone by now, with all that was in it.
            Err(Errno::NOENT) => return Ok(()),
            listed => listed.map_err(failed)?,
        };
        if hides {
            names.extend(layers.lower_names().map_err(failed)?);
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.entry(layers, &name, prefix, hides, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, layers: &Layers, name: &CStr, prefix: &[u8], hides: bool, depth: usize) -> Result<(), Refusal> {
        let path = [prefix, name.to_bytes()].concat();
        let stat = match look(&layers.upper, name) {
            Ok(stat) if !is_whiteout(&stat) => stat,
            Ok(_) | Err(Errno::NOENT) => return self.deleted(layers, name, &path, hides),
            Err(error) => return Err(cannot_read(&path, error)),
        };
        if !is_directory(&stat) {
            return self.other(layers, name, &path, &stat);
        }
        let Some(hides) = self.directory(layers, name, &path, &stat, hides)? else { return Ok(()) };
        match layers.child(name) {
            Ok(child) => self.contents(&child, &[&path, &b"/"[..]].concat(), hides, depth + 1),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(cannot_read(&path, error)),
        }
    }

    fn deleted(&mut self, layers: &Layers, name: &CStr, path: &[u8], hidden: bool) -> Result<(), Refusal> {
        let Some((lower, in_base)) = layers.lower(name) else { return Ok(()) };
        (self.visit)(&Found {
            path,
            at: layers.upper.as_fd(),
            name,
            what: What::Deleted { needs_mark: in_base && !hidden },
            change: Some(ChangeKind::Deleted),
            kind: task::kind(&lower.stat),
            size: 0,
        })
    }

    fn other(&mut self, layers: &Layers, name: &CStr, path: &[u8], stat: &Stat) -> Result<(), Refusal> {
        let change = match layers.lower(name) {
            None => Some(ChangeKind::Added),
            Some((lower, _)) => match self.comparison.is_same_file(layers.upper.as_fd(), name, stat, &lower) {
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(cannot_read(path, error)),
                Ok(same) => (!same).then_some(ChangeKind::Modified),
            },
        };
        let kind = task::kind(stat);
        let size = if kind == FileKind::File { stat.st_size.cast_unsigned() } else { 0 };
        (self.visit)(&Found { path, at: layers.upper.as_fd(), name, what: What::Other, change, kind, size })
    }

    /// Visits a directory itself. Returns whether it hides what is below; `None` if it is gone.
    fn directory(
        &mut self,
        layers: &Layers,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        hidden: bool,
    ) -> Result<Option<bool>, Refusal> {
        let at = layers.upper.as_fd();
        let lower = layers.lower(name);
        let compared = self.comparison.is_opaque(at, name).and_then(|hides| {
            let Some((lower, _)) = &lower else { return Ok((hides, Some(ChangeKind::Added))) };
            let same = self.comparison.is_same_directory(at, name, stat, lower)?;
            Ok((hides, (!same).then_some(ChangeKind::Modified)))
        });
        let (hides, change) = match compared {
            Err(Errno::NOENT) => return Ok(None),
            compared => compared.map_err(|error| cannot_read(path, error))?,
        };
        // Of no use where the image has no directory: what else it has there, a directory replaces anyway.
        let base_has_it = lower.is_some_and(|(lower, in_base)| in_base && is_directory(&lower.stat));
        let what = What::Directory { needs_mark: hides && !hidden && base_has_it };
        (self.visit)(&Found { path, at, name, what, change, kind: FileKind::Directory, size: 0 })?;
        Ok(Some(hides || hidden))
    }
}

fn look(at: impl AsFd, name: &CStr) -> SystemResult<Stat> {
    statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn open(at: &OwnedFd, name: &CStr) -> SystemResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// How overlayfs writes down that something is gone.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn list(directory: &OwnedFd) -> SystemResult<Vec<CString>> {
    // A descriptor remembers how far it has been read.
    let directory = openat(directory, ITSELF, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
