//! Everything known of one workspace.

use crate::verify::{Verified, verify};
use crate::{Client, Connection, Error};
use microagent_protocol::FaultReport;
use microagent_protocol::supervisor::{Answer, Ask, Running};
use microagent_state::{Name, Phase, ResultRecord, WorkspaceRecord};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a workspace that runs may take to show that it answers, before it is said that it does not.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// A workspace as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct WorkspaceStatus {
    /// What it is and what became of it.
    #[serde(flatten, serialize_with = "without_verification")]
    pub record: WorkspaceRecord,
    /// Its directory.
    pub path: PathBuf,
    /// Whether it is still made of what it was made of.
    pub verification: Verified,
    /// Room its disk takes.
    pub rootfs_usage: RootfsUsage,
    /// Whether it answers, while a supervisor runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// How its last command ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultRecord>,
}

/// Room a workspace's disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RootfsUsage {
    /// Size of the disk as its guest sees it, in MiB.
    pub size_mib: u64,
    /// Bytes it takes on this host.
    pub host_allocated_bytes: u64,
}

/// Whether a workspace that runs answers.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// The process that runs it answers: its guest has come up.
    pub guest_ready: Ready,
    /// Its guest finds its way into the workspace, as it does for every command.
    pub exec_ready: Ready,
    /// A result of its command is there.
    pub result_ready: Ready,
    /// What the process that runs it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
}

/// Whether something is ready, and when that was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// It is.
    pub ready: bool,
    /// When that was seen.
    pub observed_at: jiff::Timestamp,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<FaultReport>,
}

impl Ready {
    fn seen(ready: bool, error: Option<&Error>) -> Ready {
        Ready { ready, observed_at: jiff::Timestamp::now(), error: error.map(Error::report) }
    }
}

/// What was recorded to verify by is part of what was found.
fn without_verification<S: Serializer>(record: &WorkspaceRecord, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(record).map_err(S::Error::custom)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("verification");
    }
    value.serialize(serializer)
}

impl Client {
    /// Everything known of one workspace, after a look at what it is made of and, while it runs, a question to its guest.
    pub fn status(&self, name: &Name) -> Result<WorkspaceStatus, Error> {
        let workspace = self.state().find(name)?;
        let record = workspace.status()?;
        let result = workspace.result()?;
        let disk = std::fs::metadata(workspace.disk());
        Ok(WorkspaceStatus {
            verification: verify(self, &workspace, &record),
            rootfs_usage: RootfsUsage {
                size_mib: record.resources.size_mib,
                host_allocated_bytes: disk.map_or(0, |disk| disk.blocks() * 512),
            },
            readiness: answers(&record).then(|| self.readiness(name, result.is_some())),
            path: workspace.path().to_owned(),
            record,
            result,
        })
    }

    /// The record of a workspace, true as of now, without a look at anything else.
    pub fn record(&self, name: &Name) -> Result<WorkspaceRecord, Error> {
        Ok(self.state().find(name)?.status()?)
    }

    fn readiness(&self, name: &Name, has_result: bool) -> Readiness {
        let deadline = Some(Instant::now() + PROBE_LIMIT);
        let found = self.connect(name).and_then(|connection| Ok((running(&connection, deadline)?, connection)));
        let root = match &found {
            Ok((_, connection)) => Some(look_at_root(connection, deadline)),
            Err(_) => None,
        };
        Readiness {
            guest_ready: Ready::seen(found.is_ok(), found.as_ref().err()),
            exec_ready: match &root {
                Some(looked) => Ready::seen(looked.is_ok(), looked.as_ref().err()),
                None => Ready::seen(false, None),
            },
            result_ready: Ready::seen(has_result, None),
            running: found.ok().map(|(running, _)| running),
        }
    }
}

/// Whether there is somebody to ask. A run is its own supervisor, has no session, and listens to nobody.
fn answers(record: &WorkspaceRecord) -> bool {
    record.phase == Phase::Running && record.session.is_some()
}

/// What the process that runs a workspace says of it.
pub(crate) fn running(connection: &Connection, deadline: Option<Instant>) -> Result<Running, Error> {
    match connection.ask(&Ask::Status, deadline)? {
        Answer::Status(running) => Ok(running),
        other => Err(Connection::unexpected(&other)),
    }
}

fn look_at_root(connection: &Connection, deadline: Option<Instant>) -> Result<(), Error> {
    match connection.ask(&Ask::Stat { path: "/".to_owned(), follow: true }, deadline)? {
        Answer::Stat(_) => Ok(()),
        other => Err(Connection::unexpected(&other)),
    }
}
