//! Everything that can go wrong with the state directory.

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
            Error::BadName { .. } | Error::NoStateDir | Error::BadVolumeName { .. } | Error::VolumeShrink { .. } => {
                FaultKind::Usage
            }
            Error::NotFound { .. } | Error::VolumeNotFound { .. } => FaultKind::NotFound,
            Error::Exists { .. } | Error::InUse { .. } | Error::VolumeExists { .. } | Error::VolumeInUse { .. } => {
                FaultKind::Conflict
            }
            Error::VolumeDeclared { .. } | Error::DiskInUse { .. } => FaultKind::Conflict,
            Error::BadRecord { .. } => FaultKind::Invalid,
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
