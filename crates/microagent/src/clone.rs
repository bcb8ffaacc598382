//! Copies of workspaces.

use crate::{Client, Error};
use microagent_state::{DiskSource, Name, Phase, Workspace, WorkspaceRecord};
use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;
use serde::Serialize;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most bytes that are copied in one call.
const PIECE: u64 = 64 << 20;

/// A workspace that was copied.
#[derive(Clone, Debug, Serialize)]
pub struct Cloned {
    /// Name of the new workspace.
    pub workspace: Name,
    /// Name of the one it is a copy of.
    pub source: Name,
    /// Where the new one is in its life.
    pub state: Phase,
    /// Its directory.
    pub path: PathBuf,
    /// Bytes its disks take on this host. Some may be shared with those of the source.
    pub bytes: u64,
}

impl Client {
    /// Makes a workspace that is as another one at rest is now. Its disks are copies, those built from archives included; disks of the host
    /// and volumes are the same ones, and only one of the two can write to them at a time. It has no result and a history of its own.
    ///
    /// The UUIDs of the copied file systems are those of the source: a guest only ever sees one of them.
    pub fn clone_workspace(&self, source: &Name, name: &Name) -> Result<Cloned, Error> {
        // Before the source is held.
        if self.state().find(name).is_ok() {
            return Err(microagent_state::Error::Exists { name: name.to_string() }.into());
        }
        self.at_rest(source, |from, record| {
            if !record.phase.can_start() {
                return Err(Error::WrongState { name: source.to_string(), state: record.phase, doing: "clone" });
            }
            let to = self.state().create(name)?;
            match self.fill(from, record, &to) {
                Ok(bytes) => Ok(Cloned {
                    workspace: name.clone(),
                    source: source.clone(),
                    state: Phase::Prepared,
                    path: to.path().to_owned(),
                    bytes,
                }),
                Err(error) => {
                    // Half a workspace is none. What cannot be removed now, `gc` will.
                    let _ = to.remove();
                    Err(error)
                }
            }
        })
    }

    /// Fills a new workspace. The record comes last: without one, what a crash leaves is nobody's.
    fn fill(&self, from: &Workspace, record: &WorkspaceRecord, to: &Workspace) -> Result<u64, Error> {
        let mut bytes = copy_disk(&from.disk(), &to.disk())?;
        let mut record = record.clone();
        for disk in &mut record.disks {
            let DiskSource::Bundle { path: Some(path), .. } = &mut disk.source else { continue };
            let Ok(inside) = path.strip_prefix(from.path()) else { continue };
            let copy = to.path().join(inside);
            make_parent(&copy)?;
            bytes += copy_disk(path, &copy)?;
            *path = copy;
        }
        if !record.setup_complete {
            crate::inject::copy(from, to)?;
        }
        let now = jiff::Timestamp::now();
        if record.hostname == from.name().to_hostname() {
            record.hostname = to.name().to_hostname();
        }
        record.name = to.name().clone();
        (record.created_at, record.updated_at) = (now, now);
        record.phase = Phase::Prepared;
        (record.error, record.session) = (None, None);
        record.disposable = false;
        to.store(&record)?;
        to.note(&record, "cloned", self.cause(Some(format!("a copy of `{}`", from.name()))))?;
        Ok(bytes)
    }
}

fn make_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    Ok(made.map_err(microagent_state::Error::io("make the directory", parent))?)
}

/// Copies a disk, holes as holes; where the file system can share blocks, it does. Returns what the copy takes.
fn copy_disk(from: &Path, to: &Path) -> Result<u64, Error> {
    let source = File::open(from).map_err(microagent_state::Error::io("read", from))?;
    let copy = || -> io::Result<u64> {
        let target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        match ioctl_ficlone(&target, &source) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                copy_data(&source, &target)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(target.metadata()?.blocks() * 512)
    };
    Ok(copy().map_err(microagent_state::Error::io("copy the disk to", to))?)
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    ftruncate(target, length)?;
    let mut at = 0;
    while at < length {
        let start = match seek(source, SeekFrom::Data(at)) {
            // There is nothing but a hole from here on.
            Err(Errno::NXIO) => return Ok(()),
            start => start?,
        };
        let end = seek(source, SeekFrom::Hole(start))?;
        at = copy_range(source, target, start, end)?;
    }
    Ok(())
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<u64> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let piece = usize::try_from((end - from).min(PIECE)).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), piece) {
            // The file has become shorter, which that of a workspace at rest does not.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_copied_disk_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let source = File::create(&from).unwrap();
        source.set_len(64 << 20).unwrap();
        for (at, byte) in [(0, 1), (5 << 20, 2), ((64 << 20) - 4096, 3)] {
            source.write_all_at(&[byte; 4096], at).unwrap();
        }
        let bytes = copy_disk(&from, &to).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        assert!(bytes <= 1 << 20, "{bytes} bytes are taken by 12 KiB");
        assert!(copy_disk(&from, &to).is_err(), "nothing is copied over");
    }
}
