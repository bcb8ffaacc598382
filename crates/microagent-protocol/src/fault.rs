//! The one shape every error of this project has when it leaves a crate.
//!
//! Each crate keeps its own typed `Error` enum. What the outside sees of it (the CLI's text, the JSON error object, the
//! supervisor protocol) is always the same five facts, so each `Error` implements [`Fault`] and nothing else needs to
//! know the enum.

use serde::{Deserialize, Serialize};

/// What sort of failure it is, and so what a caller may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The caller asked for something malformed. Asking again the same way fails the same way.
    Usage,
    /// The thing named does not exist.
    NotFound,
    /// The thing named exists or is in use, and the operation needs it not to be.
    Conflict,
    /// This host, engine or version cannot do it.
    Unsupported,
    /// A registry, a policy or the file system said no.
    Denied,
    /// Space, memory or another limit ran out.
    ResourceExhausted,
    /// It may work if tried again unchanged: the network, a busy server.
    Transient,
    /// Input from outside (an image, a kernel, a record) is damaged or malicious.
    Invalid,
    /// It failed and none of the above describes why.
    Permanent,
    /// A bug in this program.
    Internal,
}

/// An error that can be shown to a person and acted on by a program.
///
/// The message is the error's `Display`: one line, lower case, no trailing stop, values in backticks. Causes are in the
/// `source` chain, not pasted into the message.
pub trait Fault: std::error::Error {
    /// A stable identifier in `snake_case`, unique in the project: programs match on it.
    fn code(&self) -> &str;
    /// What sort of failure it is.
    fn kind(&self) -> FaultKind;
    /// What to do next: a command to run or a value to change.
    fn hint(&self) -> Option<String> {
        None
    }
    /// Whether the same call may succeed if repeated unchanged.
    fn retryable(&self) -> bool {
        self.kind() == FaultKind::Transient
    }
}

/// A [`Fault`] written down: the error object of `--json`, `--mode ax` and the supervisor protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// See [`Fault::code`].
    pub code: String,
    /// See [`Fault::kind`].
    pub kind: FaultKind,
    /// The message with its chain of causes, joined by `: `.
    pub message: String,
    /// See [`Fault::hint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<String>,
    /// See [`Fault::retryable`].
    pub retryable: bool,
}

impl FaultReport {
    /// Writes down `fault` with the whole chain of its causes.
    pub fn new(fault: &dyn Fault) -> Self {
        let mut message = fault.to_string();
        let mut cause = fault.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        FaultReport {
            code: fault.code().to_owned(),
            kind: fault.kind(),
            message,
            remediation: fault.hint(),
            retryable: fault.retryable(),
        }
    }
}
