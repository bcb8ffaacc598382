//! Everything that can go wrong with the state directory.

use crate::snapshot::{LayerId, SnapshotRef};
use microagent_protocol::{Fault, FaultKind};
use std::io;
use std::path::PathBuf;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a name.
    #[error("`{name}` is not a workspace name")]
    BadName {
        /// What was given.
        name: String,
    },
    /// There is no home directory to put the default state directory in.
    #[error("no state directory: neither `--state-dir`, `MICROAGENT_STATE_DIR` nor `HOME` is set")]
    NoStateDir,
    /// No workspace has that name.
    #[error("no workspace is called `{name}`")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A workspace of that name exists already.
    #[error("a workspace called `{name}` exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The workspace is running or being worked on.
    #[error("workspace `{name}` is in use")]
    InUse {
        /// The name.
        name: String,
    },
    /// Not a name of a volume.
    #[error("`{name}` is not a volume name")]
    BadVolumeName {
        /// What was given.
        name: String,
    },
    /// No volume has that name.
    #[error("no volume is called `{name}`")]
    VolumeNotFound {
        /// The name.
        name: String,
    },
    /// A volume of that name exists already.
    #[error("a volume called `{name}` exists already")]
    VolumeExists {
        /// The name.
        name: String,
    },
    /// Somebody has the volume.
    #[error("volume `{name}` is {}", attached_to(by))]
    VolumeInUse {
        /// The name.
        name: String,
        /// The workspaces that have it. Empty when it is being removed or resized, or changed hands a moment ago.
        by: Vec<String>,
    },
    /// Workspaces that do not run declare the volume.
    #[error("volume `{name}` is declared by {}", quoted(by))]
    VolumeDeclared {
        /// The name.
        name: String,
        /// The workspaces.
        by: Vec<String>,
    },
    /// Somebody else has the disk.
    #[error("the disk `{}` is in use by another workspace", path.display())]
    DiskInUse {
        /// The disk.
        path: PathBuf,
    },
    /// A volume can only grow.
    #[error("volume `{name}` cannot become smaller than its {size_mib} MiB")]
    VolumeShrink {
        /// The name.
        name: String,
        /// Its size now.
        size_mib: u64,
    },
    /// Not a tag of a snapshot.
    #[error("`{tag}` is not a tag of a snapshot")]
    BadTag {
        /// What was given.
        tag: String,
    },
    /// Not what names a snapshot.
    #[error("`{given}` does not name a snapshot")]
    BadSnapshotRef {
        /// What was given.
        given: String,
    },
    /// No snapshot has that tag.
    #[error("workspace `{}` has no snapshot `{}`", snapshot.workspace, snapshot.tag)]
    SnapshotNotFound {
        /// The snapshot.
        snapshot: SnapshotRef,
    },
    /// A snapshot of that tag exists already, or is being made.
    #[error("workspace `{}` has a snapshot `{}` already", snapshot.workspace, snapshot.tag)]
    SnapshotExists {
        /// The snapshot.
        snapshot: SnapshotRef,
    },
    /// Somebody else is removing the snapshot.
    #[error("snapshot `{snapshot}` is in use")]
    SnapshotInUse {
        /// The snapshot.
        snapshot: SnapshotRef,
    },
    /// Something of the snapshot is not what it was.
    #[error("snapshot `{snapshot}` is damaged: {reason}")]
    SnapshotDamaged {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What is wrong.
        reason: String,
    },
    /// The snapshot was made by a newer version.
    #[error("snapshot `{snapshot}` was made by a newer version: {reason}")]
    SnapshotNewer {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What tells.
        reason: String,
    },
    /// A layer is not what it was.
    #[error("the layer `{layer}` of a snapshot is damaged: {reason}")]
    LayerDamaged {
        /// The layer.
        layer: LayerId,
        /// What is wrong.
        reason: String,
    },
    /// The layer was made by a newer version.
    #[error("the layer `{layer}` of a snapshot has version {version}, this program reads version {ours}")]
    LayerNewer {
        /// The layer.
        layer: LayerId,
        /// Its version.
        version: u32,
        /// The newest that is known.
        ours: u32,
    },
    /// A record cannot be understood.
    #[error("the record `{}` cannot be read: {reason}", path.display())]
    BadRecord {
        /// The record.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was being done, as in "cannot ... PATH".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn attached_to(by: &[String]) -> String {
    if by.is_empty() { "in use".to_owned() } else { format!("attached to {}", quoted(by)) }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// For `map_err`: the kernel refused to do `doing` to `path`.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { doing, path, source }
    }
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::BadName { .. } => "workspace_name_invalid",
            Error::NoStateDir => "state_dir_unknown",
            Error::NotFound { .. } => "workspace_not_found",
            Error::Exists { .. } => "workspace_exists",
            Error::InUse { .. } => "workspace_in_use",
            Error::BadVolumeName { .. } => "volume_name_invalid",
            Error::VolumeNotFound { .. } => "volume_not_found",
            Error::VolumeExists { .. } => "volume_exists",
            Error::VolumeInUse { .. } => "volume_in_use",
            Error::VolumeDeclared { .. } => "volume_declared",
            Error::DiskInUse { .. } => "disk_in_use",
            Error::VolumeShrink { .. } => "volume_shrink",
            Error::BadTag { .. } => "snapshot_tag_invalid",
            Error::BadSnapshotRef { .. } => "snapshot_reference_invalid",
            Error::SnapshotNotFound { .. } => "snapshot_not_found",
            Error::SnapshotExists { .. } => "snapshot_exists",
            Error::SnapshotInUse { .. } => "snapshot_in_use",
            Error::SnapshotDamaged { .. } => "snapshot_damaged",
            Error::SnapshotNewer { .. } => "snapshot_newer",
            Error::LayerDamaged { .. } => "snapshot_layer_damaged",
            Error::LayerNewer { .. } => "snapshot_layer_newer",
            Error::BadRecord { .. } => "record_invalid",
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no_space",
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "state_dir_not_writable",
                _ => "state_io",
            },
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::BadName { .. }
            | Error::NoStateDir
            | Error::BadVolumeName { .. }
            | Error::VolumeShrink { .. }
            | Error::BadTag { .. }
            | Error::BadSnapshotRef { .. } => FaultKind::Usage,
            Error::NotFound { .. } | Error::VolumeNotFound { .. } | Error::SnapshotNotFound { .. } => {
                FaultKind::NotFound
            }
            Error::Exists { .. }
            | Error::InUse { .. }
            | Error::VolumeExists { .. }
            | Error::VolumeInUse { .. }
            | Error::VolumeDeclared { .. }
            | Error::DiskInUse { .. }
            | Error::SnapshotExists { .. }
            | Error::SnapshotInUse { .. } => FaultKind::Conflict,
            Error::SnapshotNewer { .. } | Error::LayerNewer { .. } => FaultKind::Unsupported,
            Error::SnapshotDamaged { .. } | Error::LayerDamaged { .. } | Error::BadRecord { .. } => FaultKind::Invalid,
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FaultKind::ResourceExhausted,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
                _ => FaultKind::Permanent,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::BadName { .. } | Error::BadVolumeName { .. } => Some(
                "a name starts with a letter or digit, goes on with letters, digits, `.`, `_` or `-`, and has at most 63 characters"
                    .to_owned(),
            ),
            Error::NoStateDir => Some("pass `--state-dir DIR`".to_owned()),
            Error::NotFound { .. } => Some("see what there is with `microagent list`".to_owned()),
            Error::Exists { name } => Some(format!("choose another name, or remove it with `microagent delete {name} --yes`")),
            Error::InUse { name } => Some(format!("see what it does with `microagent status {name}`")),
            Error::VolumeNotFound { name } => Some(format!(
                "see what there is with `microagent volume list`, or make it with `microagent volume create {name}`"
            )),
            Error::VolumeExists { name } => {
                Some(format!("use it, choose another name, or remove it with `microagent volume rm {name}`"))
            }
            Error::VolumeInUse { .. } => {
                Some("halt what has it; several may have a volume at once only if all of them have it read-only".to_owned())
            }
            Error::VolumeDeclared { .. } => {
                Some("delete them first, or remove it all the same with `--force`: they will not start without it".to_owned())
            }
            Error::DiskInUse { .. } => {
                Some("halt what has it; several may have a disk at once only if all of them have it read-only".to_owned())
            }
            Error::VolumeShrink { .. } => Some("make a smaller volume and copy what is on this one".to_owned()),
            Error::BadTag { .. } => Some(
                "a tag starts with a letter or digit, goes on with letters, digits, `.`, `_` or `-`, and has at most 63 characters"
                    .to_owned(),
            ),
            Error::BadSnapshotRef { .. } => Some("it is written `WORKSPACE:TAG`".to_owned()),
            Error::SnapshotNotFound { snapshot } => {
                Some(format!("see what there is with `microagent snapshot list {}`", snapshot.workspace))
            }
            Error::SnapshotExists { snapshot } => Some(format!(
                "choose another tag, or remove it with `microagent snapshot delete {} {}`",
                snapshot.workspace, snapshot.tag
            )),
            Error::SnapshotInUse { .. } => Some("wait for who has it".to_owned()),
            Error::SnapshotDamaged { snapshot, .. } => Some(format!(
                "use another snapshot; `microagent create --from-snapshot {snapshot} --disk-only` has its disks, if those are good"
            )),
            Error::LayerDamaged { .. } => {
                Some("use a snapshot that does not need it, and delete those that do".to_owned())
            }
            Error::SnapshotNewer { .. } | Error::LayerNewer { .. } => {
                Some("use the version that made it, or a newer one".to_owned())
            }
            Error::BadRecord { .. } => {
                Some("it was damaged or written by a newer version; the rest of the workspace is untouched".to_owned())
            }
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("make room: `microagent image prune --all` removes images no workspace uses".to_owned())
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("choose a directory you own with `--state-dir DIR`".to_owned())
                }
                _ => None,
            },
        }
    }
}
