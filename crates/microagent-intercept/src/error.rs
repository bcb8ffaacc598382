//! Everything that can be wrong before the first connection.

use microagent_protocol::{Fault, FaultKind};
use std::io;
use std::path::PathBuf;

/// The error of this crate. None of them repeats a value that may be a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No key or certificate could be made.
    #[error("cannot make the certificate authority of a workspace")]
    Authority {
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is nothing to check servers against.
    #[error("cannot use the trusted certificates in {place}: {reason}")]
    Roots {
        /// Where they were to come from.
        place: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The thread could not be started.
    #[error("cannot start the interceptor")]
    Start {
        /// Why not.
        source: io::Error,
    },
    /// Not a provider.
    #[error("there is no credential swap of the name that was given")]
    UnknownProvider,
    /// A provider's reference is none.
    #[error("the credential swap `{name}` has no valid reference")]
    BadReference {
        /// The swap.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<microagent_secret::Error>,
    },
    /// The file with swaps cannot be read.
    #[error("cannot read `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file with swaps is not one.
    #[error("`{path}` is not a list of credential swaps: {reason}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Where and why not.
        reason: String,
    },
    /// A swap that cannot be meant.
    #[error("the credential swap `{name}` cannot be used: {reason}")]
    BadSwap {
        /// The swap.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two swaps that want the same header.
    #[error("the credential swaps `{first}` and `{second}` both set `{header}` for `{host}`")]
    TwoSwaps {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// The header.
        header: String,
        /// The host.
        host: String,
    },
    /// What a swap refers to could not be had.
    #[error("the credential swap `{name}` needs `{reference}`")]
    Unresolved {
        /// The swap.
        name: String,
        /// What it refers to.
        reference: String,
        /// Why it could not be had.
        #[source]
        source: Box<microagent_secret::Error>,
    },
    /// What a swap refers to is not what it needs.
    #[error("the credential swap `{name}` cannot use what `{reference}` holds: {reason}")]
    BadValue {
        /// The swap.
        name: String,
        /// What it refers to.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::Authority { .. } => "intercept_authority",
            Error::Roots { .. } => "intercept_roots",
            Error::Start { .. } => "intercept_start",
            Error::UnknownProvider => "swap_provider_unknown",
            Error::BadReference { .. } => "swap_reference_invalid",
            Error::File { .. } => "swap_file",
            Error::BadFile { .. } => "swap_file_invalid",
            Error::BadSwap { .. } => "swap_invalid",
            Error::TwoSwaps { .. } => "swap_twice",
            Error::Unresolved { .. } => "swap_unresolved",
            Error::BadValue { .. } => "swap_value_invalid",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::Authority { .. } => FaultKind::Internal,
            Error::Roots { .. } => FaultKind::Invalid,
            Error::Start { .. } => FaultKind::ResourceExhausted,
            Error::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FaultKind::NotFound,
                io::ErrorKind::PermissionDenied => FaultKind::Denied,
                _ => FaultKind::Permanent,
            },
            Error::Unresolved { source, .. } => source.kind(),
            _ => FaultKind::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::UnknownProvider => Some(format!(
                "name one of {}, or describe another in `--egress-swap-config`",
                crate::swap::provider_names().collect::<Vec<_>>().join(", ")
            )),
            Error::BadReference { source, .. } | Error::Unresolved { source, .. } => source.hint(),
            Error::TwoSwaps { .. } => Some("keep one of them".to_owned()),
            Error::Roots { .. } => {
                Some("install `ca-certificates`, or set `SSL_CERT_FILE` to a file of them".to_owned())
            }
            _ => None,
        }
    }
}
