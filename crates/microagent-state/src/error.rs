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
            Error::BadName { .. } | Error::NoStateDir => FaultKind::Usage,
            Error::NotFound { .. } => FaultKind::NotFound,
            Error::Exists { .. } | Error::InUse { .. } => FaultKind::Conflict,
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
            Error::BadName { .. } => Some(
                "a name starts with a letter or digit, goes on with letters, digits, `.`, `_` or `-`, and has at most 63 characters"
                    .to_owned(),
            ),
            Error::NoStateDir => Some("pass `--state-dir DIR`".to_owned()),
            Error::NotFound { .. } => Some("see what there is with `microagent list`".to_owned()),
            Error::Exists { name } => Some(format!("choose another name, or remove it with `microagent delete {name} --yes`")),
            Error::InUse { name } => Some(format!("see what it does with `microagent status {name}`")),
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
