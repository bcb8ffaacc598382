//! What can go wrong with templates. None of it keeps a machine from running.

use crate::engine::kind_of;
use microagent_protocol::{Fault, FaultKind};
use std::io;
use std::path::{Path, PathBuf};

/// The error of this module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        "template_io"
    }

    fn kind(&self) -> FaultKind {
        let Error::Io { source, .. } = self;
        kind_of(source)
    }

    fn hint(&self) -> Option<String> {
        Some("`--cold` does without templates".to_owned())
    }
}
