//! A program that has values.

use crate::Secret;
use crate::environment::Environment;
use crate::read::{bounded, without_line_end};
use microagent_protocol::{Fault, FaultKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The setting that names the program.
const VARIABLE: &str = "MICROAGENT_SECRET_HELPER";

/// What goes wrong with the helper.
///
/// What it prints is never shown: on its standard error, too, it may have put the value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// No program is named.
    #[error("`MICROAGENT_SECRET_HELPER` names no program")]
    Unset,
    /// The setting is not the path of a program.
    #[error("`MICROAGENT_SECRET_HELPER` is not an absolute path")]
    NotAbsolute,
    /// It cannot be run.
    #[error("cannot run the helper `{program}`")]
    NotRun {
        /// Its path.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What it prints cannot be read.
    #[error("cannot read what the helper prints")]
    NotRead {
        /// Why not.
        source: io::Error,
    },
    /// It says that it failed, or was killed.
    #[error("the helper ended with {status}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
    },
    /// It prints more than a value may have.
    #[error("the helper prints more than 1 MiB")]
    TooLong,
    /// It takes longer than the deadline, and was killed.
    #[error("the helper did not end within {deadline:?}")]
    TimedOut {
        /// How long it had.
        deadline: Duration,
    },
}

impl Fault for HelperError {
    fn code(&self) -> &str {
        match self {
            HelperError::Unset => "secret_helper_unset",
            HelperError::NotAbsolute => "secret_helper_invalid",
            HelperError::NotRun { .. } => "secret_helper_not_run",
            HelperError::NotRead { .. } => "secret_helper_not_read",
            HelperError::Failed { .. } => "secret_helper_failed",
            HelperError::TooLong => "secret_helper_too_long",
            HelperError::TimedOut { .. } => "secret_helper_timed_out",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            HelperError::Unset | HelperError::NotAbsolute => FaultKind::Usage,
            HelperError::TooLong => FaultKind::Invalid,
            HelperError::TimedOut { .. } => FaultKind::Transient,
            HelperError::NotRun { source, .. } => crate::error::kind_of(source),
            HelperError::NotRead { .. } | HelperError::Failed { .. } => FaultKind::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            HelperError::Unset | HelperError::NotAbsolute => {
                "set `MICROAGENT_SECRET_HELPER` to the absolute path of a program that prints the value of its argument"
            }
            HelperError::Failed { .. } => "run the helper with the reference to see what it says",
            HelperError::TimedOut { .. } => "the helper cannot ask anything: unlock what it reads from first",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What the helper prints for `argument`.
pub(crate) fn run(environment: &Environment, argument: &str, deadline: Duration) -> Result<Secret, HelperError> {
    let program = environment.setting(VARIABLE).ok_or(HelperError::Unset)?;
    let program = PathBuf::from(OsString::from_vec(program.to_vec()));
    if !program.is_absolute() {
        return Err(HelperError::NotAbsolute);
    }
    let mut command = Command::new(&program);
    environment.pass_to(&mut command);
    // A group of its own, so that all that it starts can be killed with it.
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let until = Instant::now() + deadline;
    let not_run = |source| HelperError::NotRun { program: program.clone(), source };
    let mut group = Group(command.spawn().map_err(not_run)?);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::TimedOut => HelperError::TimedOut { deadline },
        _ => HelperError::NotRead { source },
    };
    let mut output = Output::of(&mut group.0, until).map_err(failed)?;
    let printed = bounded(&mut output).map_err(failed)?.ok_or(HelperError::TooLong)?;
    output.wait_for_end().map_err(failed)?;
    let status = group.end().map_err(failed)?;
    if !status.success() {
        return Err(HelperError::Failed { status });
    }
    Secret::of(without_line_end(&printed)).map_err(|_| HelperError::TooLong)
}

/// A process and whatever it started, all of which is gone when this is.
struct Group(Child);

impl Group {
    /// Kills what still runs. The process is reaped last: until then nobody else can have the number of its group.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // Each fails only where there is nothing to kill.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.kill();
        self.0.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // After it was reaped, its number may be another's.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.end();
        }
    }
}

/// What a process prints until it ends, or until it is time.
struct Output {
    printed: ChildStdout,
    process: OwnedFd,
    until: Instant,
}

impl Output {
    fn of(child: &mut Child, until: Instant) -> io::Result<Output> {
        let printed = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Output { printed, process: pidfd_open(Pid::from_child(child), PidfdFlags::empty())?, until })
    }

    fn wait_for_end(&self) -> io::Result<()> {
        wait(&mut [PollFd::new(&self.process, PollFlags::IN)], self.until)
    }
}

impl Read for &mut Output {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = PollFlags::IN | PollFlags::HUP;
        let mut both = [PollFd::new(&self.printed, wanted), PollFd::new(&self.process, PollFlags::IN)];
        wait(&mut both, self.until)?;
        if both[0].revents().is_empty() {
            // It has ended, and a process that it left behind may hold the pipe open for ever. What it printed between
            // the two looks of `poll` is there by now.
            let mut printed = [PollFd::new(&self.printed, wanted)];
            if poll(&mut printed, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
                return Ok(0);
            }
        }
        self.printed.read(into)
    }
}

/// Waits until there is something to say about one of `fds`.
fn wait(fds: &mut [PollFd<'_>], until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(fds, Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
