//! Everything that can keep a process from being captured or a copy from being made.

use crate::format::{EXIT_BAD_PLAN, EXIT_CALL_FAILED, EXIT_FILE_CHANGED};
use std::fmt;
use std::io;
use std::process::ExitStatus;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a step.
    #[error("cannot {action} the process to be checkpointed: {source}")]
    Trace {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file under `/proc` does not read as expected.
    #[error("cannot make sense of `{what}` of the process to be checkpointed")]
    Proc {
        /// Which file.
        what: &'static str,
    },
    /// Not all of its threads wait for something.
    #[error("the process to be checkpointed does not come to rest")]
    Busy,
    /// A descriptor that cannot be made anew: neither given by the caller nor an event, signal or null device.
    #[error("descriptor {number} of the process to be checkpointed is `{what}`, which a copy cannot have")]
    Descriptor {
        /// Its number.
        number: i32,
        /// What it leads to.
        what: String,
    },
    /// Memory that a copy cannot have.
    #[error("the process to be checkpointed has memory at {start:#x} that a copy cannot have: {what}")]
    Memory {
        /// Where.
        start: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The checkpoint cannot be written.
    #[error("cannot write the checkpoint: {0}")]
    Write(#[source] io::Error),
}

/// Why a command made by [`Checkpoint::command`](crate::Checkpoint::command) did not become a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoaderFailure {
    /// A program file mapped into the original has changed.
    FileChanged,
    /// The plan is damaged or of another version.
    BadPlan,
    /// The kernel refused a step.
    CallFailed,
}

impl fmt::Display for LoaderFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            LoaderFailure::FileChanged => "a program file of it has changed",
            LoaderFailure::BadPlan => "its plan is damaged",
            LoaderFailure::CallFailed => "the kernel refused a step of its plan",
        })
    }
}

impl LoaderFailure {
    /// What an exit status means, if the loader ended with it rather than the copy.
    pub fn of(status: ExitStatus) -> Option<LoaderFailure> {
        match status.code()? {
            EXIT_FILE_CHANGED => Some(LoaderFailure::FileChanged),
            EXIT_BAD_PLAN => Some(LoaderFailure::BadPlan),
            EXIT_CALL_FAILED => Some(LoaderFailure::CallFailed),
            _ => None,
        }
    }
}
