//! What can go wrong with an initramfs: the file system.

use std::io;
use std::path::{Path, PathBuf};

use microagent_protocol::{Fault, FaultKind};

/// A failure to build or find an initramfs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("could not {doing} `{path}` for the initramfs")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + use<'a> {
        move |source| Error::Io { doing, path: path.to_owned(), source }
    }
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        "initramfs_io"
    }

    fn kind(&self) -> FaultKind {
        let Error::Io { source, .. } = self;
        match source.kind() {
            io::ErrorKind::NotFound => FaultKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FaultKind::ResourceExhausted,
            _ => FaultKind::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        let Error::Io { source, doing, .. } = self;
        match (source.kind(), *doing) {
            (io::ErrorKind::StorageFull, _) => Some("free some space, or choose another `--state-dir`".to_owned()),
            (_, "read the kernel module") => {
                Some("run `microagent kernel install` to install the kernel again".to_owned())
            }
            _ => None,
        }
    }
}
