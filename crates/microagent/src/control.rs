//! Starting and ending workspaces that are kept.

mod connection;
mod exec;
mod launch;
mod wait;

pub use connection::Connection;
pub(crate) use exec::feed;
pub use exec::{ExecOptions, ExecReport, ExecStatus, Process, ProcessStreams};
pub use launch::StartOutcome;
pub use wait::Waited;

use crate::interrupt::Interrupt;
use crate::options::Templates;
use crate::supervisor::{self, StartReport};
use crate::{Client, Error};
use microagent_protocol::supervisor::{Answer, Ask, Because};
use microagent_state::snapshot::SnapshotRef;
use microagent_state::{Cause, Name, Phase, Workspace, WorkspaceRecord};
use serde::Serialize;
use std::path::PathBuf;

/// Options of [`Client::start`] and [`Client::serve`].
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Whether the machine may come from a template.
    pub templates: Templates,
    /// The snapshot it goes on from. What the workspace was before is lost when it does.
    pub from_snapshot: Option<SnapshotRef>,
    /// Why, for the workspace's events.
    pub reason: Option<String>,
    /// The program that runs the workspace, instead of the one that is found.
    pub supervisor: Option<PathBuf>,
    /// Stops it from another thread: a start that is under way is given up, a workspace that is served is halted.
    pub interrupt: Interrupt,
}

/// What became of a workspace that was to change its state.
#[derive(Clone, Debug, Serialize)]
pub struct StateReport {
    /// Name of the workspace.
    pub workspace: Name,
    /// Its state.
    pub state: Phase,
    /// Whether the call changed it: asking for what is so already is no error.
    pub changed: bool,
}

impl Client {
    /// Starts a workspace, in a process of its own that outlives this one. Returns when the guest has answered.
    pub fn start(&self, name: &Name, options: &StartOptions) -> Result<StartReport, Error> {
        launch::start(self, name, options)
    }

    /// Runs a workspace in this process until it ends, and returns the state it ended in. `ready` is called when it is up. This is what the
    /// process of [`Client::start`] does. The machine ends with the calling thread.
    pub fn serve(&self, name: &Name, options: &StartOptions, ready: impl FnOnce(&StartReport)) -> Result<Phase, Error> {
        supervisor::serve(self, name, options, ready)
    }

    /// Connects to the supervisor of a workspace that runs.
    pub fn connect(&self, name: &Name) -> Result<Connection, Error> {
        Connection::open(&self.state().find(name)?)
    }

    /// Ends a workspace cleanly: its service is asked to end, what still runs is killed, and everything that was written is on its disk.
    pub fn halt(&self, name: &Name, reason: Option<String>) -> Result<StateReport, Error> {
        self.order(name, "halt", |phase| !phase.is_live(), reason, Ask::Halt)
    }

    /// Ends a workspace at once. What was not flushed to its disk is lost.
    pub fn kill(&self, name: &Name, reason: String) -> Result<StateReport, Error> {
        self.order(name, "kill", |phase| !phase.is_live(), Some(reason), Ask::Kill)
    }

    /// Stops the virtual processors of a workspace.
    pub fn pause(&self, name: &Name, reason: Option<String>) -> Result<StateReport, Error> {
        self.order(name, "pause", |phase| phase == Phase::Paused, reason, Ask::Pause)
    }

    /// Has a paused workspace go on.
    pub fn resume(&self, name: &Name, reason: Option<String>) -> Result<StateReport, Error> {
        self.order(name, "resume", |phase| phase == Phase::Running, reason, Ask::Resume)
    }

    /// Takes a workspace out of service for good: its machine is ended at once, and nothing starts it again. Its disk and its records stay as
    /// they are.
    pub fn quarantine(&self, name: &Name, reason: String) -> Result<StateReport, Error> {
        let workspace = self.state().find(name)?;
        if workspace.status()?.phase.is_live() {
            match self.order(name, "quarantine", |_| false, Some(reason.clone()), Ask::Quarantine) {
                // It ended in between.
                Err(Error::WrongState { .. } | Error::SupervisorLost { .. }) => {}
                report => return report,
            }
        }
        let workspace = self.state().acquire(name)?;
        let mut record = workspace.record()?;
        let changed = record.phase != Phase::Quarantined;
        if changed {
            // From any state, and before anything else that a full disk could keep from being done.
            let entered = workspace.enter(&mut record, Phase::Quarantined, self.cause(Some(reason)));
            if workspace.record()?.phase != Phase::Quarantined {
                entered?;
            }
        }
        Ok(StateReport { workspace: name.clone(), state: Phase::Quarantined, changed })
    }

    /// Gives an order to the supervisor of a workspace, unless things are as `done` wants them.
    fn order(
        &self,
        name: &Name,
        doing: &'static str,
        done: impl Fn(Phase) -> bool,
        reason: Option<String>,
        ask: impl FnOnce(Because) -> Ask,
    ) -> Result<StateReport, Error> {
        let workspace = self.state().find(name)?;
        let record = workspace.status()?;
        let report = |state, changed| StateReport { workspace: name.clone(), state, changed };
        if done(record.phase) {
            return Ok(report(record.phase, false));
        }
        if !record.phase.is_live() {
            return Err(Error::WrongState { name: name.to_string(), state: record.phase, doing });
        }
        let connection = Connection::open(&workspace)?;
        let Cause { actor, reason, correlation_id } = self.cause(reason);
        match connection.ask(&ask(Because { actor, reason, correlation_id }), None) {
            Ok(Answer::Done) => Ok(report(workspace.status()?.phase, true)),
            Ok(other) => Err(Connection::unexpected(&other)),
            // It ended on the way; what counts is how.
            Err(Error::SupervisorLost { .. }) if done(workspace.status()?.phase) => {
                Ok(report(workspace.status()?.phase, true))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a workspace that nobody runs, and what is true of it.
    pub(crate) fn hold(&self, name: &Name) -> Result<(Workspace, WorkspaceRecord), Error> {
        let workspace = self.state().acquire(name)?;
        workspace.settle_disks()?;
        let mut record = workspace.record()?;
        workspace.heal(&mut record, self.cause(None))?;
        Ok((workspace, record))
    }

    /// Does something with a workspace that nobody runs.
    pub(crate) fn at_rest<T>(
        &self,
        name: &Name,
        act: impl FnOnce(&Workspace, &mut WorkspaceRecord) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (workspace, mut record) = self.hold(name)?;
        act(&workspace, &mut record)
    }
}
