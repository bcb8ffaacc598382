//! What a workspace is, and what became of it.

use super::{DiskRecord, ForwardRecord, MediationRecord, Record, SecretsRecord};
use crate::snapshot::SnapshotRef;
use crate::{Name, Phase};
use jiff::Timestamp;
use microagent_egress::Rules;
use microagent_protocol::FaultReport;
pub use microagent_protocol::supervisor::{Health, HttpGet};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// Where it is in its life. Read it through [`Workspace::status`](crate::Workspace::status): a live phase with nobody holding the
    /// lease means that the holder died.
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
    /// Ports of the host that lead into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<ForwardRecord>,
    /// What may leave it.
    #[serde(default)]
    pub egress: Rules,
    /// Credentials that are put into its requests on their way out, as the interceptor knows them: references only.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub swaps: Value,
    /// Services of the host that it reaches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mediations: Vec<MediationRecord>,
    /// Secrets it is given.
    #[serde(default, skip_serializing_if = "SecretsRecord::is_empty")]
    pub secrets: SecretsRecord,
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
    /// Whether the set-up commands have all been run. Those of a workspace whose set-up failed are run again at its next start.
    #[serde(default = "yes")]
    pub setup_complete: bool,
    /// The command of a one-shot run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The command of every start; the workspace ends when it does. Without one it runs until it is halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Vec<String>>,
    /// Working directory of commands.
    pub workdir: String,
    /// User of commands.
    pub user: String,
    /// The signal that asks its service to end, by number or name; `SIGTERM` when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// The image's environment, as `KEY=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_env: Vec<String>,
    /// File system of the base.
    #[serde(default = "erofs")]
    pub base_filesystem: String,
    /// The guest agent it boots, where it is not the one of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_init: Option<PathBuf>,
    /// A label of the caller's. It is kept and shown, and means nothing here.
    #[serde(default = "workload")]
    pub role: String,
    /// Disks besides its own, in the order in which they are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskRecord>,
    /// Guest paths that are artifacts, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Files of the host that were put into it before its set-up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRecord>,
    /// Seconds after its start at which the workspace is halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// How it is found out whether the workspace is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What it was made of, to tell when that has changed.
    #[serde(default)]
    pub verification: Verification,
    /// The machine that runs, or the last one that did: new for every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The snapshot that its machine went on from, or its disk was copied from, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<SnapshotRef>,
}

fn yes() -> bool {
    true
}

fn erofs() -> String {
    "erofs".to_owned()
}

fn workload() -> String {
    DEFAULT_ROLE.to_owned()
}

/// The role of a workspace whose caller gave none.
pub const DEFAULT_ROLE: &str = "workload";

/// A file of the host that was put into a workspace when that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// The file.
    pub source: PathBuf,
    /// Its path in the guest.
    pub destination: String,
    /// Its mode.
    pub mode: u32,
}

/// What a workspace was made of, by digests and identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Kernel image and modules: SHA-256, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The guest agent: SHA-256, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The manifest of the base's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// UUID of the writable disk's file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

impl Record for WorkspaceRecord {
    const VERSION: u32 = 3;
    const OLDEST: u32 = 1;
    const FILE: &'static str = "workspace.json";
}
