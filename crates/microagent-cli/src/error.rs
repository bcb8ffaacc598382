//! Everything this command can fail with by itself; whatever the library says passes through unchanged.

use microagent::{Fault, FaultKind};
use std::io;
use std::path::PathBuf;

/// The error of every verb.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The library failed.
    #[error(transparent)]
    Library(#[from] microagent::Error),
    /// The command line contradicts itself or cannot be understood.
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    /// Part of the contract that is not built yet.
    #[error("`{what}` is not supported yet")]
    NotSupportedYet { what: String, hint: String },
    /// A habit from container engines that means nothing here.
    #[error("`{what}` is not supported: {reason}")]
    ContainerOption { what: String, reason: &'static str, advice: String },
    /// `-e KEY` names a variable this process does not have.
    #[error("`--env {name}` takes its value from the environment, where `{name}` is not set")]
    VariableNotSet { name: String },
    /// The configuration file is wrong.
    #[error("cannot use the configuration file `{}`: line {line}, column {column}: {reason}", path.display())]
    ConfigInvalid { path: PathBuf, line: usize, column: usize, reason: String },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    ConfigUnreadable { path: PathBuf, source: io::Error },
    /// Nobody is there to say yes.
    #[error("`{doing}` needs a confirmation, and there is nobody to ask")]
    ConfirmationNeeded { doing: &'static str },
    /// The user said no.
    #[error("nothing was done")]
    Declined,
    /// No command of the workspace has ended yet.
    #[error("workspace `{workspace}` has no result: none of its commands has ended")]
    ResultMissing { workspace: String },
    /// A signal ended the verb.
    #[error("interrupted")]
    Interrupted { signal: i32 },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    /// The kernel refused something the command itself needs.
    #[error("cannot {doing}")]
    System { doing: &'static str, source: io::Error },
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
}

impl Error {
    /// A mistake on the command line, and the way out.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// For `map_err`: the kernel refused to let us do `doing`.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { doing, source }
    }
}

impl From<microagent::image::Error> for Error {
    fn from(error: microagent::image::Error) -> Error {
        Error::Library(error.into())
    }
}

impl From<microagent::machine::kernel::Error> for Error {
    fn from(error: microagent::machine::kernel::Error) -> Error {
        Error::Library(microagent::machine::Error::from(error).into())
    }
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::Library(error) => error.code(),
            Error::Usage { .. } => "usage",
            Error::NotSupportedYet { .. } => "not_supported_yet",
            Error::ContainerOption { .. } => "unsupported_container_option",
            Error::VariableNotSet { .. } => "variable_not_set",
            Error::ConfigInvalid { .. } => "config_invalid",
            Error::ConfigUnreadable { .. } => "config_unreadable",
            Error::ConfirmationNeeded { .. } => "confirmation_needed",
            Error::Declined => "declined",
            Error::ResultMissing { .. } => "result_missing",
            Error::Interrupted { .. } => "interrupted",
            Error::Output(_) => "output_failed",
            Error::System { .. } => "system_failure",
            Error::WriteFile { .. } => "file_not_writable",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::Library(error) => error.kind(),
            Error::Usage { .. }
            | Error::VariableNotSet { .. }
            | Error::ConfigInvalid { .. }
            | Error::ConfigUnreadable { .. }
            | Error::ConfirmationNeeded { .. } => FaultKind::Usage,
            Error::NotSupportedYet { .. } | Error::ContainerOption { .. } => FaultKind::Unsupported,
            Error::ResultMissing { .. } => FaultKind::NotFound,
            Error::Declined | Error::Interrupted { .. } => FaultKind::Permanent,
            Error::Output(source) | Error::System { source, .. } | Error::WriteFile { source, .. } => {
                match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FaultKind::ResourceExhausted,
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
                    _ => FaultKind::Permanent,
                }
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Library(error) => error.hint(),
            Error::Usage { hint, .. } => hint.clone(),
            Error::NotSupportedYet { hint, .. } => Some(hint.clone()),
            Error::ContainerOption { advice, .. } => Some(advice.clone()),
            Error::VariableNotSet { name } => Some(format!("give a value: `--env {name}=VALUE`")),
            Error::ConfigInvalid { .. } => {
                Some("it may set `output`, `progress`, `state_dir`, `propagate_exit_code` and `templates`".to_owned())
            }
            Error::ConfigUnreadable { path, .. } => Some(format!("repair or remove `{}`", path.display())),
            Error::ConfirmationNeeded { .. } => Some("add `--yes`".to_owned()),
            Error::ResultMissing { workspace } => Some(format!("see its state with `microagent status {workspace}`")),
            _ => None,
        }
    }

    fn retryable(&self) -> bool {
        match self {
            Error::Library(error) => error.retryable(),
            _ => false,
        }
    }
}
