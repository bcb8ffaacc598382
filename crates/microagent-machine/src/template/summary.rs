//! What there is to say about templates.

use serde::{Deserialize, Serialize};

/// Where the RAM of a template is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPlace {
    /// In memory, shared by all machines restored from it.
    Tmpfs,
    /// In the template's directory, because tmpfs has no room for it or was not wanted.
    Disk,
}

/// One template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TemplateSummary {
    /// Its key: what it was made of, as hexadecimal digits.
    pub key: String,
    /// The engine program's name.
    pub engine: String,
    /// The engine program's version.
    pub engine_version: String,
    /// What the processors of its machines run on: `linux-kvm` or `linux-tcg`.
    pub backend: String,
    /// `uname -r` of the guest.
    pub kernel: String,
    /// RAM of its machines in MiB.
    pub memory_mib: u32,
    /// Virtual processors of its machines.
    pub cpus: u32,
    /// Where its RAM is kept.
    pub memory: MemoryPlace,
    /// Whether its machines go on from an engine that has the guest's code translated.
    pub rehearsed: bool,
    /// Why it has not, where that was tried since the host was booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal_failed: Option<String>,
    /// What its RAM takes there, and the memory of its engine, in bytes.
    pub memory_bytes: u64,
    /// What it takes on disk, in bytes; its RAM included where that is on disk.
    pub disk_bytes: u64,
    /// When it was made, in seconds since the Unix epoch.
    pub made_at: u64,
    /// When a machine was last restored from it, in seconds since the Unix epoch.
    pub used_at: u64,
    /// Why no machine will be restored from it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
}

/// Which templates to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplatePrune {
    /// All of them. The next run of each kind makes its own again.
    All,
    /// Those from which no machine will be restored any more.
    Stale,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TemplatesPruned {
    /// Keys of the templates.
    pub removed: Vec<String>,
    /// Bytes they took, in memory and on disk.
    pub bytes: u64,
}
