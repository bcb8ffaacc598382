//! One workspace.

use crate::event::{self, Cause, Event};
use crate::record::{Record, ResultRecord, WorkspaceRecord};
use crate::{Error, Lease, Name, Phase, Watch};
use microagent_protocol::{FaultKind, FaultReport};
use std::path::{Path, PathBuf};

/// A directory that is one workspace. Whoever made or opened it for change holds its lease.
#[derive(Debug)]
pub struct Workspace {
    name: Name,
    path: PathBuf,
    lease: Option<Lease>,
}

impl Workspace {
    /// File name of [`Workspace::socket`].
    pub const SOCKET: &'static str = "supervisor.sock";
    /// Name of the directory in its own of disks that are about to take the place of its own.
    pub const RESTORING: &'static str = "restoring";

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

    /// Where the process that runs it is reached. The path may be longer than a socket's address can be.
    pub fn socket(&self) -> PathBuf {
        self.path.join(Workspace::SOCKET)
    }

    /// What the process that runs it had to say.
    pub fn supervisor_log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// What went out of it, and what did not.
    pub fn egress_log(&self) -> PathBuf {
        self.path.join("egress.jsonl")
    }

    /// Who was given which secret.
    pub fn secrets_log(&self) -> PathBuf {
        self.path.join("secrets.jsonl")
    }

    /// Whether somebody holds its lease. The answer may be outdated as soon as it is given.
    pub fn is_held(&self) -> Result<bool, Error> {
        Ok(self.lease.is_some() || Lease::is_held(&self.path)?)
    }

    /// The record as it is on disk.
    pub fn record(&self) -> Result<WorkspaceRecord, Error> {
        let record = WorkspaceRecord::load(&self.path)?;
        let mut record = record.ok_or_else(|| Error::NotFound { name: self.name.to_string() })?;
        // The mark stands even where the record could not be written.
        if Lease::is_marked(&self.path) {
            record.phase = Phase::Quarantined;
        }
        Ok(record)
    }

    /// The record as it is true now: a live phase whose holder died reads as [`Phase::Failed`].
    pub fn status(&self) -> Result<WorkspaceRecord, Error> {
        // The order matters: a holder records the end before it lets go of the lease.
        let held = self.is_held()?;
        let mut record = self.record()?;
        if record.phase.is_live() && !held {
            record.phase = Phase::Failed;
            record.error = Some(holder_died());
        }
        Ok(record)
    }

    /// Records the end of a workspace whose holder died without doing so. Needs the lease.
    pub fn heal(&self, record: &mut WorkspaceRecord, cause: Cause) -> Result<bool, Error> {
        if !record.phase.is_live() {
            return Ok(false);
        }
        if Lease::is_marked(&self.path) {
            self.enter(record, Phase::Quarantined, cause.because("it was, when that could not be recorded"))?;
            return Ok(false);
        }
        record.error = Some(holder_died());
        self.enter(record, Phase::Failed, cause)?;
        Ok(true)
    }

    /// Takes the workspace into `next`, and writes down that it was so, and why. Needs the lease.
    ///
    /// # Panics
    ///
    /// When [`Phase::may_become`] does not allow it: callers look first.
    pub fn enter(&self, record: &mut WorkspaceRecord, next: Phase, cause: Cause) -> Result<(), Error> {
        let from = record.phase;
        assert!(from.may_become(next), "a workspace that is {from} cannot become {next}");
        if next == Phase::Quarantined {
            Lease::mark(&self.path)?;
        }
        record.phase = next;
        record.updated_at = jiff::Timestamp::now();
        if next != Phase::Failed {
            record.error = None;
        }
        self.store(record)?;
        let happened = Event { from: Some(from), ..event(record, &next.to_string(), cause) };
        event::append(&self.path, &happened)
    }

    /// Writes down something that happened and changed no phase.
    pub fn note(&self, record: &WorkspaceRecord, what: &str, cause: Cause) -> Result<(), Error> {
        crate::event::append(&self.path, &event(record, what, cause))
    }

    /// What happened to it from byte `offset` of its file of events on, and the offset to go on from.
    pub fn events(&self, offset: u64) -> Result<(Vec<Event>, u64), Error> {
        event::read(&self.path, offset)
    }

    /// Tells when something about it changes.
    pub fn watch(&self) -> Result<Watch, Error> {
        Watch::new(&self.path)
    }

    /// The file of its events.
    pub fn events_path(&self) -> PathBuf {
        self.path.join(event::FILE)
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

/// What is behind a live phase with nobody holding the lease.
fn holder_died() -> FaultReport {
    FaultReport {
        code: "supervisor_died".to_owned(),
        kind: FaultKind::Permanent,
        message: "the process that ran the workspace ended without recording why".to_owned(),
        remediation: None,
        retryable: false,
    }
}

/// A line of the file of events.
fn event(record: &WorkspaceRecord, what: &str, cause: Cause) -> Event {
    Event {
        at: record.updated_at.max(jiff::Timestamp::now()),
        event: what.to_owned(),
        state: record.phase,
        from: None,
        cause,
        session: record.session.clone(),
        error: record.error.clone().filter(|_| record.phase == Phase::Failed),
        exit_code: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateDir;

    /// What has to be in a record; the rest has defaults.
    fn record(name: &Name) -> WorkspaceRecord {
        let record = serde_json::json!({
            "name": name, "created_at": jiff::Timestamp::UNIX_EPOCH, "updated_at": jiff::Timestamp::UNIX_EPOCH,
            "phase": "running", "disposable": false, "image": "x", "image_digest": "", "base_path": "/b",
            "kernel_path": "/k", "backend": "b", "engine": "e", "profile": "p",
            "resources": {"memory_mib": 1, "cpu_count": 1, "size_mib": 1}, "network": "n", "restart": "never",
            "hostname": "h", "shell": "/s", "env": {}, "setup": [], "workdir": "/", "user": "",
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn quarantine_stands_even_where_it_cannot_be_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        let name = Name::new("box").unwrap();
        let workspace = state.create(&name).unwrap();
        let mut record = record(&name);
        workspace.store(&record).unwrap();
        // As on a full disk: no record can be written any more.
        std::fs::create_dir(workspace.path().join(".workspace.json.new")).unwrap();
        assert!(workspace.enter(&mut record, Phase::Quarantined, Cause::of("test")).is_err());
        assert_eq!(workspace.record().unwrap().phase, Phase::Quarantined);
        drop(workspace);
        let found = state.acquire(&name).unwrap();
        assert_eq!(found.status().unwrap().phase, Phase::Quarantined);
        assert!(!found.record().unwrap().phase.can_start());
    }
}
