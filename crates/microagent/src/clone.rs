//! Copies of workspaces.

use crate::disk_copy::copy_disk;
use crate::{Client, Error};
use microagent_state::{DiskSource, Name, Phase, Workspace, WorkspaceRecord};
use serde::Serialize;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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
        (record.error, record.session, record.origin) = (None, None, None);
        record.disposable = false;
        to.store(&record)?;
        to.note(&record, "cloned", self.cause(Some(format!("a copy of `{}`", from.name()))))?;
        Ok(bytes)
    }
}

pub(crate) fn make_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    Ok(made.map_err(microagent_state::Error::io("make the directory", parent))?)
}
