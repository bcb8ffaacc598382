//! What a snapshot consists of.

use super::{LayerId, MAX_CHAIN, SnapshotRef, Tag};
use crate::record::{Record, Verification, WorkspaceRecord};
use crate::{Error, Name};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `snapshot.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its tag. Filled in when it is published.
    pub tag: Tag,
    /// The workspace it was taken of. Filled in when it is published.
    pub workspace: Name,
    /// When it was taken.
    pub created_at: Timestamp,
    /// What it is good for.
    pub kind: SnapshotKind,
    /// What its maker had to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// For how long the workspace stood still, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<f64>,
    /// The snapshot that the workspace had come from. It may be gone: this only tells, and nothing of it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ancestry: Option<SnapshotRef>,
    /// What the workspace was.
    #[serde(with = "versioned")]
    pub record: WorkspaceRecord,
    /// The read-only disk under that of the workspace.
    pub base: Base,
    /// Whether secrets were removed from memory before it was captured.
    pub secrets_purged: bool,
    /// The machine, where it was captured running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// The writable disks.
    pub disks: Vec<DiskPart>,
    /// The small files beside this one, with their SHA-256 in hexadecimal. Filled in when it is published.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What a snapshot is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// Memory, devices and disks: a machine goes on from it.
    Full,
    /// Disks only: a machine starts anew with them.
    Disk,
    /// Kept to be looked at, and never started.
    Forensic,
}

/// Identity of a read-only base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What the machine was made of.
    pub verification: Verification,
}

/// A machine that was captured running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What the machine that is to go on has to have alike. It means nothing here.
    pub shape: Value,
    /// Its memory.
    pub memory: Vec<LayerId>,
    /// Size of its memory.
    pub memory_bytes: u64,
    /// What the guest agent said of itself. It means nothing here.
    pub hello: Value,
    /// The processes that were started from outside and had not ended.
    pub processes: Vec<ProcessPart>,
}

/// A process of the guest that was started from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessPart {
    /// The number of its call in the protocol of the guest agent.
    pub call: u32,
    /// What was started.
    pub argv: Vec<String>,
    /// When it was started, in nanoseconds of the caller's clock.
    pub started_ns: u64,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether nobody waits for it.
    pub detached: bool,
    /// Whether its standard input is open.
    pub stdin: bool,
    /// Whether it is the service of the workspace.
    pub service: bool,
    /// Its id among the processes of the workspace.
    pub id: u64,
}

/// A writable disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPart {
    /// `workspace`, or the name of one of the workspace's own disks.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What is on it.
    pub layers: Vec<LayerId>,
}

impl Manifest {
    /// Every layer it needs, memory first. A layer may come twice.
    pub fn layers(&self) -> impl Iterator<Item = &LayerId> {
        let memory = self.machine.iter().flat_map(|machine| &machine.memory);
        memory.chain(self.disks.iter().flat_map(|disk| &disk.layers))
    }

    /// Reads the manifest of the snapshot in `dir`.
    pub(super) fn read(dir: &Path, snapshot: &SnapshotRef) -> Result<Manifest, Error> {
        let damaged = |reason: String| Error::SnapshotDamaged { snapshot: snapshot.clone(), reason };
        let manifest = match Manifest::load(dir) {
            Ok(Some(manifest)) => manifest,
            Ok(None) if dir.is_dir() => return Err(damaged(format!("it has no `{}`", Manifest::FILE))),
            Ok(None) => return Err(Error::SnapshotNotFound { snapshot: snapshot.clone() }),
            Err(Error::BadRecord { reason, .. }) => {
                let newer = |reason| Error::SnapshotNewer { snapshot: snapshot.clone(), reason };
                return Err(newer_version(dir).map_or_else(|| damaged(format!("its manifest: {reason}")), newer));
            }
            Err(error) => return Err(error),
        };
        match manifest.contradiction(snapshot) {
            Some(reason) => Err(damaged(reason)),
            None => Ok(manifest),
        }
    }

    /// What in it cannot be of the snapshot, if anything.
    fn contradiction(&self, snapshot: &SnapshotRef) -> Option<String> {
        if (&self.workspace, &self.tag) != (&snapshot.workspace, &snapshot.tag) {
            return Some(format!("its manifest is that of `{}:{}`", self.workspace, self.tag));
        }
        let disks = self.disks.iter().map(|disk| &disk.name);
        if let Some(name) = disks.chain(self.files.keys()).find(|name| !is_file_name(name)) {
            return Some(format!("`{}` is no name of a file", name.escape_debug()));
        }
        let chains =
            self.machine.iter().map(|machine| &machine.memory).chain(self.disks.iter().map(|disk| &disk.layers));
        if let Some(chain) = chains.map(Vec::len).find(|&length| length > MAX_CHAIN) {
            return Some(format!("a chain has {chain} layers"));
        }
        (self.kind == SnapshotKind::Full && self.machine.is_none()).then(|| "it has no machine".to_owned())
    }
}

/// Whether it is one name, and not a path.
fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// What tells that the manifest in `dir` was written by a newer version.
fn newer_version(dir: &Path) -> Option<String> {
    let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join(Manifest::FILE)).ok()?).ok()?;
    let newer = |what: &str, version: &Value, ours: u32| {
        let version = version.as_u64().filter(|&version| version > u64::from(ours))?;
        Some(format!("{what} has version {version}, this program reads version {ours}"))
    };
    newer("its manifest", &manifest["version"], Manifest::VERSION).or_else(|| {
        newer("the record of the workspace", &manifest["record"]["record"]["version"], WorkspaceRecord::VERSION)
    })
}

impl Record for Manifest {
    const VERSION: u32 = 1;
    const FILE: &'static str = "snapshot.json";
}

/// The workspace's record with the version of its shape, which changes at other times than that of the manifest.
mod versioned {
    use crate::record::{Record, WorkspaceRecord};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Versioned<T> {
        version: u32,
        record: T,
    }

    pub(super) fn serialize<S: Serializer>(record: &WorkspaceRecord, to: S) -> Result<S::Ok, S::Error> {
        Versioned { version: WorkspaceRecord::VERSION, record }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<WorkspaceRecord, D::Error> {
        let Versioned { version, record } = Versioned::<serde_json::Value>::deserialize(from)?;
        if !(WorkspaceRecord::OLDEST..=WorkspaceRecord::VERSION).contains(&version) {
            return Err(D::Error::custom(format!("the workspace's record has version {version}")));
        }
        serde_json::from_value(record).map_err(D::Error::custom)
    }
}
