//! Everything that can be wrong with rules.

use microagent_protocol::{Fault, FaultKind};
use std::io;
use std::path::PathBuf;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a pattern of hosts.
    #[error("`{host}` names no host: {reason}")]
    BadHost {
        /// What was given.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a mode.
    #[error("`{mode}` is not an egress mode: `guarded`, `strict` or `off`")]
    BadMode {
        /// What was given.
        mode: String,
    },
    /// Hosts are listed where nothing is checked.
    #[error("egress mode `off` checks nothing, so there is nothing to allow")]
    NothingToAllow,
    /// A file that is to be read or written cannot be.
    #[error("cannot {doing} `{path}`")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it is to be.
    #[error("`{path}` is not {what}: {reason}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What it is to be.
        what: &'static str,
        /// Where and why not.
        reason: String,
    },
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::BadHost { .. } => "egress_host_invalid",
            Error::BadMode { .. } => "egress_mode_invalid",
            Error::NothingToAllow => "egress_off_with_hosts",
            Error::File { .. } => "egress_file",
            Error::BadFile { .. } => "egress_file_invalid",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FaultKind::NotFound,
                io::ErrorKind::PermissionDenied => FaultKind::Denied,
                io::ErrorKind::StorageFull => FaultKind::ResourceExhausted,
                _ => FaultKind::Permanent,
            },
            _ => FaultKind::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::NothingToAllow => {
                Some("leave the hosts out, or use `--egress guarded` or `--egress strict`".to_owned())
            }
            Error::BadHost { .. } => {
                Some("name a host as in `api.example.com`, or `.example.com` for all below it".to_owned())
            }
            _ => None,
        }
    }
}
