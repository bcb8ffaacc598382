//! Disks a workspace has besides its own.

use crate::VolumeName;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A disk that was declared for a workspace, and where the guest mounts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskRecord {
    /// Its name among the disks of the workspace.
    pub name: String,
    /// What it is on the host.
    pub source: DiskSource,
    /// Where the guest mounts it: an absolute path, normalised.
    pub mountpoint: String,
    /// Whether the guest may write to it.
    pub mode: MountMode,
}

impl DiskRecord {
    /// The virtio serial by which the guest finds the disk at `index` among the declared ones. It is not the name: a serial has at most
    /// 20 bytes, and disks called `base` or `workspace` would be mistaken for the workspace's own.
    pub fn serial(index: usize) -> String {
        format!("disk{index}")
    }
}

/// What a declared disk is on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DiskSource {
    /// An ext4 file or block device of the user's.
    Disk {
        /// Where it is.
        path: PathBuf,
    },
    /// A disk built from a tar archive. It belongs to the workspace, which writes to its own copy.
    Bundle {
        /// The archive.
        source: PathBuf,
        /// The disk that was built from it; `None` until it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
    },
    /// A named volume.
    Volume {
        /// Its name.
        name: VolumeName,
    },
}

/// What a guest may do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountMode {
    /// Only read it. Several workspaces may do so at once.
    #[serde(rename = "ro")]
    ReadOnly,
    /// Read and write it. Nobody else has it meanwhile.
    #[serde(rename = "rw")]
    ReadWrite,
}

impl MountMode {
    /// `ro` or `rw`.
    pub const fn name(self) -> &'static str {
        match self {
            MountMode::ReadOnly => "ro",
            MountMode::ReadWrite => "rw",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_read_back_as_written_and_unknown_fields_are_refused() {
        let disk = |source| DiskRecord {
            name: "data".to_owned(),
            source,
            mountpoint: "/data".to_owned(),
            mode: MountMode::ReadOnly,
        };
        let sources = [
            DiskSource::Disk { path: "/tmp/data.ext4".into() },
            DiskSource::Bundle { source: "/tmp/data.tar".into(), path: None },
            DiskSource::Volume { name: "data".parse().unwrap() },
        ];
        for record in sources.map(disk) {
            let text = serde_json::to_string(&record).unwrap();
            assert!(text.contains(r#""mode":"ro""#), "{text}");
            assert_eq!(serde_json::from_str::<DiskRecord>(&text).unwrap(), record);
        }
        for text in [
            r#"{"name":"a","source":{"kind":"disk","path":"/x","more":1},"mountpoint":"/m","mode":"ro"}"#,
            r#"{"name":"a","source":{"kind":"disk","path":"/x"},"mountpoint":"/m","mode":"ro","more":1}"#,
            r#"{"name":"a","source":{"kind":"volume","name":"../x"},"mountpoint":"/m","mode":"ro"}"#,
        ] {
            assert!(serde_json::from_str::<DiskRecord>(text).is_err(), "{text}");
        }
    }
}
