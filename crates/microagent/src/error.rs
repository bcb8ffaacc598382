//! Everything a call of this library can fail with.

use microagent_protocol::{Fault, FaultKind, FaultReport};
use std::io;
use std::path::PathBuf;

/// The error of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// See [`microagent_image::Error`].
    #[error(transparent)]
    Image(#[from] microagent_image::Error),
    /// See [`microagent_machine::Error`].
    #[error(transparent)]
    Machine(#[from] microagent_machine::Error),
    /// See [`microagent_state::Error`].
    #[error(transparent)]
    State(#[from] microagent_state::Error),
    /// No profile has that name.
    #[error("unknown profile `{name}`")]
    ProfileUnknown {
        /// The name given.
        name: String,
    },
    /// A number is outside of what a machine can have.
    #[error("`{option}` is {value}, and must be from {min} to {max}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// What was given.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// An option has a value it cannot have.
    #[error("`{option}` cannot be `{value}`: {reason}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        reason: String,
    },
    /// Neither the caller nor the image names a command.
    #[error("image `{image}` has no command of its own and none was given")]
    NoCommand {
        /// The image.
        image: String,
    },
    /// The image is for another architecture than this host.
    #[error("cannot run a `{platform}` guest on this host")]
    ForeignPlatform {
        /// The platform asked for.
        platform: String,
    },
    /// A file named by an option cannot be read.
    #[error("cannot read `{}`, given as `{option}`", path.display())]
    ReadFile {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A set-up step failed, and with it the run.
    #[error("set-up step {step} of {steps} failed with exit code {exit_code}: `{line}`")]
    SetupFailed {
        /// Which, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
        /// Its exit status, or 128 plus the signal that killed it.
        exit_code: i32,
        /// The line.
        line: String,
    },
    /// A set-up step could not be started.
    #[error("cannot start set-up step {step} of {steps}: {source}")]
    SetupNotStarted {
        /// Which, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
        /// Why.
        source: microagent_machine::Error,
    },
    /// The command could not be started.
    #[error("cannot start the command: {source}")]
    NotStarted {
        /// Why.
        source: microagent_machine::Error,
    },
    /// The run took longer than it was given.
    #[error("{run} timeout={timeout:?}): signal: killed")]
    TimedOut {
        /// Which run.
        run: Box<FailedRun>,
        /// The time it was given.
        timeout: std::time::Duration,
    },
    /// The machine did not come up, or ended before its command did.
    #[error("{run}){}", console_suffix(console.as_deref()))]
    MachineFailed {
        /// Which run.
        run: Box<FailedRun>,
        /// What went wrong.
        source: Box<microagent_machine::Error>,
        /// What the guest kernel said last, when that tells why.
        console: Option<String>,
    },
    /// The caller stopped it.
    #[error("interrupted")]
    Interrupted,
    /// The kernel's random number generator cannot be read.
    #[error("cannot read entropy from the host kernel")]
    Entropy,
}

/// A run whose machine failed.
#[derive(Clone, Debug)]
pub struct FailedRun {
    /// The workspace, which is still there.
    pub workspace: microagent_state::Name,
    /// What the processors ran on.
    pub backend: String,
    /// The engine program.
    pub engine: String,
}

/// The beginning of a message that goes on inside the parenthesis.
impl std::fmt::Display for FailedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run workspace \"{}\" failed (backend={} engine={}", self.workspace, self.backend, self.engine)
    }
}

fn console_suffix(console: Option<&str>) -> String {
    console.map(|line| format!(", the guest kernel said `{line}`")).unwrap_or_default()
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Image(error) => error.code(),
            Error::Machine(error) => error.code(),
            Error::State(error) => error.code(),
            Error::ProfileUnknown { .. } => "profile_unknown",
            Error::OutOfRange { .. } => "option_out_of_range",
            Error::BadOption { .. } => "option_invalid",
            Error::NoCommand { .. } => "command_missing",
            Error::ForeignPlatform { .. } => "platform_foreign",
            Error::ReadFile { .. } => "file_unreadable",
            Error::SetupFailed { .. } => "setup_failed",
            Error::SetupNotStarted { .. } => "setup_not_started",
            Error::NotStarted { source } => source.code(),
            Error::TimedOut { .. } => "run_timed_out",
            Error::MachineFailed { .. } => "machine_failed",
            Error::Interrupted => "interrupted",
            Error::Entropy => "entropy_unavailable",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::Image(error) => error.kind(),
            Error::Machine(error) => error.kind(),
            Error::State(error) => error.kind(),
            Error::ProfileUnknown { .. }
            | Error::OutOfRange { .. }
            | Error::BadOption { .. }
            | Error::NoCommand { .. }
            | Error::ReadFile { .. } => FaultKind::Usage,
            Error::ForeignPlatform { .. } => FaultKind::Unsupported,
            Error::NotStarted { source } | Error::SetupNotStarted { source, .. } => source.kind(),
            Error::SetupFailed { .. } | Error::TimedOut { .. } | Error::MachineFailed { .. } | Error::Interrupted => {
                FaultKind::Permanent
            }
            Error::Entropy => FaultKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Image(error) => error.hint(),
            Error::Machine(error) => error.hint(),
            Error::State(error) => error.hint(),
            Error::ProfileUnknown { .. } => Some("`microagent profiles` lists them".to_owned()),
            Error::NoCommand { .. } => Some("give one after the image, or a shell line with `--exec`".to_owned()),
            Error::ForeignPlatform { .. } => {
                Some(format!("this host runs `{}` guests", microagent_image::Platform::host()))
            }
            Error::NotStarted { source } | Error::SetupNotStarted { source, .. } => source.hint(),
            Error::TimedOut { run, .. } | Error::MachineFailed { run, .. } => {
                let name = &run.workspace;
                Some(format!("see `microagent logs {name}`; remove it with `microagent delete {name} --yes`"))
            }
            _ => None,
        }
    }
}

impl Error {
    /// The error written down, for JSON output and records.
    pub fn report(&self) -> FaultReport {
        FaultReport::new(self)
    }
}
