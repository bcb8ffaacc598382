//! One workspace.

use crate::record::{Phase, Record, ResultRecord, WorkspaceRecord};
use crate::{Error, Lease, Name};
use std::path::{Path, PathBuf};

/// A directory that is one workspace. Whoever made or opened it for change holds its lease.
#[derive(Debug)]
pub struct Workspace {
    name: Name,
    path: PathBuf,
    lease: Option<Lease>,
}

impl Workspace {
    pub(crate) fn new(name: Name, path: PathBuf, lease: Option<Lease>) -> Workspace {
        Workspace { name, path, lease }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its writable disk.
    pub fn disk(&self) -> PathBuf {
        self.path.join("rootfs.ext4")
    }

    /// The guest kernel's console.
    pub fn serial_log(&self) -> PathBuf {
        self.path.join("serial.log")
    }

    /// What the engine program printed.
    pub fn engine_log(&self) -> PathBuf {
        self.path.join("engine.log")
    }

    /// What its command wrote to standard output, as far as it was kept.
    pub fn stdout_log(&self) -> PathBuf {
        self.path.join("stdout.log")
    }

    /// What its command wrote to standard error, as far as it was kept.
    pub fn stderr_log(&self) -> PathBuf {
        self.path.join("stderr.log")
    }

    /// The record as it is on disk.
    pub fn record(&self) -> Result<WorkspaceRecord, Error> {
        WorkspaceRecord::load(&self.path)?.ok_or_else(|| Error::NotFound { name: self.name.to_string() })
    }

    /// The record as it is true now: a live phase whose holder died reads as [`Phase::Failed`].
    pub fn status(&self) -> Result<WorkspaceRecord, Error> {
        // The order matters: a holder records the end before it lets go of the lease.
        let held = self.lease.is_some() || Lease::is_held(&self.path)?;
        let mut record = self.record()?;
        if record.phase.is_live() && !held {
            record.phase = Phase::Failed;
        }
        Ok(record)
    }

    /// How its last command ended.
    pub fn result(&self) -> Result<Option<ResultRecord>, Error> {
        ResultRecord::load(&self.path)
    }

    /// Writes its record. Needs the lease.
    pub fn store(&self, record: &WorkspaceRecord) -> Result<(), Error> {
        debug_assert!(self.lease.is_some(), "a record is written by the holder of the lease");
        record.store(&self.path)
    }

    /// Keeps what its command wrote. Needs the lease.
    pub fn store_output(&self, stdout: &str, stderr: &str) -> Result<(), Error> {
        for (path, text) in [(self.stdout_log(), stdout), (self.stderr_log(), stderr)] {
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    /// Removes the workspace and everything in it. Needs the lease.
    pub fn remove(self) -> Result<(), Error> {
        debug_assert!(self.lease.is_some(), "a workspace is removed by the holder of the lease");
        // Renamed first: a crash half way leaves rubbish for `collect_garbage`, never half a workspace.
        let doomed = crate::gc::doomed_path(&self.path);
        std::fs::rename(&self.path, &doomed).map_err(Error::io("remove", &self.path))?;
        // The workspace is gone; whatever is left of its files is the collector's, which may be at them already.
        let _ = std::fs::remove_dir_all(&doomed);
        Ok(())
    }
}
