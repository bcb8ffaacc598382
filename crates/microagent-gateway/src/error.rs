//! Everything that can keep a gateway from starting. What goes wrong later is an event in the record.

use microagent_protocol::{Fault, FaultKind};
use std::io;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system does not give what a gateway needs.
    #[error("cannot {doing} for the gateway")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
        move |errno| Error::System { doing, source: errno.into() }
    }
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::System { .. } => "gateway_system",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::System { .. } => FaultKind::ResourceExhausted,
        }
    }
}
