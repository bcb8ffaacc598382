//! What a workspace is, and what became of it.

use super::Record;
use crate::Name;
use jiff::Timestamp;
use microagent_protocol::FaultReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a workspace is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its machine is on the way up.
    Starting,
    /// Its machine runs.
    Running,
    /// Its machine ended as it should.
    Stopped,
    /// Its machine ended as it should not.
    Failed,
}

impl Phase {
    /// Whether a machine, and so a holder of the lease, belongs to this phase.
    pub fn is_live(self) -> bool {
        matches!(self, Phase::Starting | Phase::Running)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopped => "stopped",
            Phase::Failed => "failed",
        })
    }
}

/// Size of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpu_count: u32,
    /// Size of the workspace's writable disk in MiB.
    pub size_mib: u64,
}

/// `workspace.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRecord {
    /// Name of the workspace.
    pub name: Name,
    /// When it was made.
    pub created_at: Timestamp,
    /// When this record was last changed.
    pub updated_at: Timestamp,
    /// Where it is in its life. Read it through [`Workspace::status`](crate::Workspace::status): a live phase with nobody holding the lease
    /// means that the holder died.
    pub phase: Phase,
    /// It goes away with its command.
    pub disposable: bool,
    /// What went wrong, when the phase is [`Phase::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<FaultReport>,
    /// The image as it was asked for.
    pub image: String,
    /// Digest of the image's manifest at that time.
    pub image_digest: String,
    /// The image's read-only base.
    pub base_path: PathBuf,
    /// The kernel it boots.
    pub kernel_path: PathBuf,
    /// What the processors run on: `linux-kvm` or `linux-tcg`.
    pub backend: String,
    /// The engine program.
    pub engine: String,
    /// Name of the resource profile.
    pub profile: String,
    /// Size of the machine.
    pub resources: Resources,
    /// Network mode.
    pub network: String,
    /// Restart policy.
    pub restart: String,
    /// Guest host name.
    pub hostname: String,
    /// Shell for interactive sessions, a path in the guest.
    pub shell: String,
    /// Environment given with the workspace, on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Set-up commands, in order.
    pub setup: Vec<String>,
    /// The command.
    pub command: Vec<String>,
    /// Working directory of the command.
    pub workdir: String,
    /// User of the command.
    pub user: String,
}

impl Record for WorkspaceRecord {
    const VERSION: u32 = 1;
    const FILE: &'static str = "workspace.json";
}
