//! Why a name leads nowhere.

use microagent_protocol::{Fault, FaultKind};

/// The error of this module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// Not a name.
    #[error("`{name}` is not the name of a host")]
    BadName {
        /// What was given.
        name: String,
    },
    /// There is no such name, or it has no address.
    #[error("`{name}` has no address")]
    NoAddress {
        /// The name.
        name: String,
    },
    /// No server of the host's answered, or none knows.
    #[error("no answer about `{name}`: {reason}")]
    NoAnswer {
        /// The name.
        name: String,
        /// What the last server that was asked did.
        reason: String,
    },
}

impl Fault for LookupError {
    fn code(&self) -> &str {
        match self {
            LookupError::BadName { .. } => "lookup_name_invalid",
            LookupError::NoAddress { .. } => "lookup_no_address",
            LookupError::NoAnswer { .. } => "lookup_no_answer",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            LookupError::BadName { .. } => FaultKind::Usage,
            LookupError::NoAddress { .. } => FaultKind::NotFound,
            LookupError::NoAnswer { .. } => FaultKind::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            LookupError::NoAnswer { .. } => {
                Some("see whether the servers in `/etc/resolv.conf` can be reached".to_owned())
            }
            _ => None,
        }
    }
}
