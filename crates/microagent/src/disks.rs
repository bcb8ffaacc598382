//! Disks as they are declared: `--disk`, `--bundle`, and the container-style `--volume`.
//!
//! | flag | value | mode if none is given |
//! |---|---|---|
//! | `--disk` | `NAME=PATH:MOUNTPOINT[:ro\|rw]`, an ext4 file or block device | `rw` |
//! | `--bundle` | `NAME=PATH:MOUNTPOINT[:ro\|rw]`, a tar archive | `ro` |
//! | `--volume` | `SOURCE:MOUNTPOINT[:ro\|rw]`, where the source is the name of a volume, a tar archive or an ext4 file | as above; `rw` for a volume |
//!
//! Nothing is opened here: what is declared is checked for what can be said of the words alone, the same in a dry run.

use crate::Error;
use microagent_state::{DiskRecord, DiskSource, MountMode, Name, VolumeName};
use std::path::{Path, PathBuf};

/// Disks a machine may have besides its own two. Its devices have 24 places; consoles, networks and random numbers need some.
const MAX_DISKS: usize = 16;
/// Names of the workspace's own disks.
const RESERVED_NAMES: [&str; 2] = ["rootfs", "base"];
/// What the guest's kernel shows of itself; nothing may hide it.
const RESERVED_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Longest mount point in bytes: Linux's `PATH_MAX`, with its closing zero.
const MAX_MOUNTPOINT: usize = 4095;
/// Endings by which `--volume` knows a tar archive.
const ARCHIVE_ENDINGS: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".tar.zst"];
/// Endings by which `--volume` knows a disk.
const DISK_ENDINGS: [&str; 2] = [".ext4", ".img"];

const NAMED_FORM: &str = "it has the form `NAME=PATH:MOUNTPOINT`, with `:ro` or `:rw` at the end if need be";
const VOLUME_FORM: &str = "it has the form `SOURCE:MOUNTPOINT`, with `:ro` or `:rw` at the end if need be";

/// The disks of one workspace, each checked against those before it.
#[derive(Clone, Debug)]
pub struct Disks {
    records: Vec<DiskRecord>,
    relative_to: PathBuf,
}

impl Disks {
    /// No disks yet. Relative paths start at `relative_to`.
    pub fn new(relative_to: impl Into<PathBuf>) -> Disks {
        Disks { records: Vec::new(), relative_to: relative_to.into() }
    }

    /// Adds what `--disk` declares.
    pub fn add_disk(&mut self, value: &str) -> Result<(), Error> {
        self.add_named("--disk", value, MountMode::ReadWrite, |path| DiskSource::Disk { path })
    }

    /// Adds what `--bundle` declares.
    pub fn add_bundle(&mut self, value: &str) -> Result<(), Error> {
        self.add_named("--bundle", value, MountMode::ReadOnly, |source| DiskSource::Bundle { source, path: None })
    }

    /// Adds what `--volume` declares. The disk gets a name that none before it has, so what names its disks is to be added first.
    pub fn add_volume(&mut self, value: &str) -> Result<(), Error> {
        let refuse = |reason| bad("--volume", value, reason);
        let (source, mountpoint, mode) = split_mount(value).map_err(|reason| refuse(reason.unwrap_or(VOLUME_FORM)))?;
        if source.is_empty() {
            return Err(refuse(VOLUME_FORM));
        }
        let ends_in = |endings: &[&str]| endings.iter().any(|ending| source.ends_with(ending));
        let (source, usual) = if ends_in(&ARCHIVE_ENDINGS) {
            (DiskSource::Bundle { source: self.path(source), path: None }, MountMode::ReadOnly)
        } else if ends_in(&DISK_ENDINGS) {
            (DiskSource::Disk { path: self.path(source) }, MountMode::ReadWrite)
        } else if source.starts_with(['.', '~']) || source.contains('/') {
            return Err(Error::HostDirectory { value: value.to_owned() });
        } else {
            let name = VolumeName::new(source).map_err(|_| {
                refuse("the name of a volume has letters, digits, `.`, `_` and `-`, at most 63 of them, and starts with a letter or digit")
            })?;
            (DiskSource::Volume { name }, MountMode::ReadWrite)
        };
        let name = self.free_name(&source);
        self.push(DiskRecord { name, source, mountpoint: mountpoint.to_owned(), mode: mode.unwrap_or(usual) }, value)
    }

    /// Adds a disk from a specification. Its paths may be relative.
    pub fn add(&mut self, mut record: DiskRecord) -> Result<(), Error> {
        match &mut record.source {
            DiskSource::Disk { path } | DiskSource::Bundle { source: path, .. } => {
                *path = self.relative_to.join(&*path);
            }
            DiskSource::Volume { .. } => {}
        }
        let value = record.name.clone();
        self.push(record, &value)
    }

    /// The disks, in the order in which they were added and are mounted.
    pub fn into_records(self) -> Vec<DiskRecord> {
        self.records
    }

    fn add_named(
        &mut self,
        flag: &'static str,
        value: &str,
        usual: MountMode,
        source: impl FnOnce(PathBuf) -> DiskSource,
    ) -> Result<(), Error> {
        let refuse = |reason| bad(flag, value, reason);
        let (name, rest) = value.split_once('=').ok_or_else(|| refuse(NAMED_FORM))?;
        let (path, mountpoint, mode) = split_mount(rest).map_err(|reason| refuse(reason.unwrap_or(NAMED_FORM)))?;
        if name.is_empty() || path.is_empty() {
            return Err(refuse(NAMED_FORM));
        }
        let source = source(self.path(path));
        let (name, mountpoint) = (name.to_owned(), mountpoint.to_owned());
        self.push(DiskRecord { name, source, mountpoint, mode: mode.unwrap_or(usual) }, value)
    }

    /// Adds `record`, which was written as `value`, if it goes together with those before it.
    fn push(&mut self, mut record: DiskRecord, value: &str) -> Result<(), Error> {
        let refuse = |reason: String| bad(flag_of(&record.source), value, reason);
        check_name(&record.name).map_err(refuse)?;
        let mountpoint = normalise(&record.mountpoint).map_err(refuse)?;
        if self.records.iter().any(|other| other.name == record.name) {
            return Err(refuse(format!("there is a disk called `{}` already", record.name)));
        }
        if let Some(other) = self.records.iter().find(|other| other.mountpoint == mountpoint) {
            return Err(refuse(format!("disk `{}` is mounted at `{mountpoint}` already", other.name)));
        }
        if matches!(record.source, DiskSource::Volume { .. } | DiskSource::Disk { .. })
            && let Some(other) = self.records.iter().find(|other| other.source == record.source)
        {
            return Err(refuse(format!("it is mounted at `{}` already", other.mountpoint)));
        }
        if self.records.len() == MAX_DISKS {
            return Err(refuse(format!("a workspace has at most {MAX_DISKS} disks besides its own")));
        }
        record.mountpoint = mountpoint;
        self.records.push(record);
        Ok(())
    }

    fn path(&self, text: &str) -> PathBuf {
        self.relative_to.join(text)
    }

    /// A name for a disk that was given none: what its source is called, with a number if that is taken.
    fn free_name(&self, source: &DiskSource) -> String {
        let stem = match source {
            DiskSource::Volume { name } => name.as_str(),
            DiskSource::Disk { path } | DiskSource::Bundle { source: path, .. } => stem(path),
        };
        let usable = Some(stem).filter(|stem| Name::new(*stem).is_ok()).unwrap_or("disk");
        let taken = |name: &str| check_name(name).is_err() || self.records.iter().any(|other| other.name == name);
        // Numbered names need room for the number.
        let base = &usable[..usable.len().min(48)];
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        std::iter::once(usable.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }
}

/// Takes `PATH:MOUNTPOINT[:ro|rw]` apart, from its end: a path may hold colons. The reason for a failure, if it is not the form.
fn split_mount(text: &str) -> Result<(&str, &str, Option<MountMode>), Option<&'static str>> {
    let (rest, last) = text.rsplit_once(':').ok_or(None)?;
    let mode = match last {
        "ro" => MountMode::ReadOnly,
        "rw" => MountMode::ReadWrite,
        _ if last.starts_with('/') => return Ok((rest, last, None)),
        _ if rest.contains(":/") => return Err(Some("its mode is `ro` or `rw`")),
        _ => return Err(Some("its mount point is an absolute path in the guest")),
    };
    let (path, mountpoint) = rest.rsplit_once(':').ok_or(None)?;
    Ok((path, mountpoint, Some(mode)))
}

fn check_name(name: &str) -> Result<(), String> {
    if Name::new(name).is_err() {
        return Err("the name of a disk has letters, digits, `.`, `_` and `-`, at most 63 of them, and starts with a letter or digit"
            .to_owned());
    }
    if RESERVED_NAMES.contains(&name) {
        return Err(format!("`{name}` is the name of a disk every workspace has"));
    }
    Ok(())
}

/// The mount point without anything that means nothing.
fn normalise(mountpoint: &str) -> Result<String, String> {
    let refuse = |reason: &str| Err(reason.to_owned());
    if !mountpoint.starts_with('/') {
        return refuse("its mount point is an absolute path in the guest");
    }
    if mountpoint.len() > MAX_MOUNTPOINT || mountpoint.chars().any(char::is_control) {
        return refuse("its mount point is no path that can be");
    }
    let parts: Vec<&str> = mountpoint.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return refuse("its mount point may not lead upwards with `..`");
    }
    if parts.is_empty() {
        return refuse("`/` is the root of the workspace itself");
    }
    let path = format!("/{}", parts.join("/"));
    match RESERVED_TREES.into_iter().find(|tree| Path::new(&path).starts_with(tree)) {
        Some(tree) => Err(format!("`{tree}` belongs to the guest's kernel")),
        None => Ok(path),
    }
}

/// The name of a file without any ending that says what it is.
fn stem(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut endings = ARCHIVE_ENDINGS.into_iter().chain(DISK_ENDINGS);
    endings.find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

fn flag_of(source: &DiskSource) -> &'static str {
    match source {
        DiskSource::Disk { .. } => "--disk",
        DiskSource::Bundle { .. } => "--bundle",
        DiskSource::Volume { .. } => "--volume",
    }
}

fn bad(option: &'static str, value: &str, reason: impl Into<String>) -> Error {
    Error::BadOption { option, value: value.to_owned(), reason: reason.into() }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
