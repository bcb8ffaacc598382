//! A running machine: one process and one byte stream.

use super::console::Keeper;
use crate::Error;
use crate::channel::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

/// How long an engine that has closed the channel may take to end. Milliseconds on an idle host; when it does not end at all, the guest
/// closed the channel and stayed up.
const ENDING: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Most bytes of an engine's own log that go into an error.
const LOG_TAIL: usize = 2048;

/// A machine that was launched. Dropping it kills it.
pub struct Machine {
    process: Child,
    killer: Killer,
    channel: Channel,
    /// Ends with the process.
    console: Option<Keeper>,
    engine_log: PathBuf,
}

/// Where what a machine says goes.
pub(super) struct Logs<'a> {
    /// The guest kernel's console.
    pub(super) serial: &'a Path,
    /// What the engine program prints.
    pub(super) engine: &'a Path,
}

/// The two sockets of a machine: our ends, and the ones the engine inherits.
pub(super) struct Sockets {
    channel: (UnixStream, OwnedFd),
    console: (UnixStream, OwnedFd),
}

impl Sockets {
    pub(super) fn new() -> Result<Sockets, Error> {
        let pair = || -> Result<_, Error> {
            let (ours, theirs) = UnixStream::pair().map_err(|source| Error::Channel { source })?;
            Ok((ours, OwnedFd::from(theirs)))
        };
        Ok(Sockets { channel: pair()?, console: pair()? })
    }

    /// The engine's end of the channel to the agent.
    pub(super) fn channel_fd(&self) -> RawFd {
        self.channel.1.as_raw_fd()
    }

    /// The engine's end of the guest kernel's console.
    pub(super) fn console_fd(&self) -> RawFd {
        self.console.1.as_raw_fd()
    }
}

/// Ends a machine from any thread.
#[derive(Clone)]
pub struct Killer {
    pidfd: Arc<OwnedFd>,
}

impl Killer {
    /// Kills the engine process. The machine is gone when [`Machine::wait`] returns; killing a dead one does nothing.
    pub fn kill(&self) {
        // The only failure of a valid pidfd and signal is that the process is gone already.
        let _ = pidfd_send_signal(&*self.pidfd, Signal::KILL);
    }
}

impl Machine {
    /// Spawns `command`, which finds the engine's ends of `sockets` as inherited descriptors.
    pub(super) fn spawn(mut command: Command, logs: &Logs<'_>, sockets: Sockets) -> Result<Machine, Error> {
        let program = PathBuf::from(command.get_program());
        let log_error = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::EngineLog { path, source }
        };
        let engine_log = File::create(logs.engine).map_err(log_error(logs.engine))?;
        let launch = |source| Error::Launch { program: program.clone(), source };
        command.stdin(Stdio::null()).stdout(engine_log.try_clone().map_err(launch)?).stderr(engine_log);
        // A group of its own: the terminal's Ctrl-C is for the guest's command, not for the engine.
        command.process_group(0);
        owned::die_with_parent_and_inherit(&mut command, [sockets.channel_fd(), sockets.console_fd()]);
        let process = Unfinished(Some(command.spawn().map_err(launch)?));
        let Sockets { channel: (channel, theirs), console: (console, theirs_too) } = sockets;
        // With our copies gone, the engine's end closes when the engine ends.
        drop((theirs, theirs_too));
        let pidfd = pidfd_open(process.pid(), PidfdFlags::empty()).map_err(|errno| launch(errno.into()))?;
        let console = Keeper::start(console, logs.serial).map_err(log_error(logs.serial))?;
        let channel = Channel::open(channel)?;
        Ok(Machine {
            process: process.finish(),
            killer: Killer { pidfd: Arc::new(pidfd) },
            channel,
            console: Some(console),
            engine_log: logs.engine.to_owned(),
        })
    }

    /// The conversation with the guest agent.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// A handle that can kill the machine while another thread waits for it.
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Process id of the engine.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the engine process has ended and is reaped, and its console is in the log.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        let status = self.process.wait().map_err(|source| Error::EngineWait { source })?;
        if let Some(console) = self.console.take() {
            console.finish();
        }
        Ok(status)
    }

    /// Kills the engine and reaps it.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.killer.kill();
        self.wait().map(drop)
    }

    /// Explains why the machine ended on its own: reaps it, and reads what it had to say.
    pub fn post_mortem(&mut self) -> Error {
        // It closes the channel on its way out; how it then ends is worth waiting for.
        let ending = poll(&mut [PollFd::new(&*self.killer.pidfd, PollFlags::IN)], Some(&ENDING));
        if !matches!(ending, Ok(1)) {
            let _ = self.kill();
            return Error::GuestLost;
        }
        match self.wait() {
            Err(error) => error,
            Ok(status) => Error::EngineExited { how: describe(status), log: tail(&self.engine_log) },
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A child that is killed if its owner fails before the machine is whole.
struct Unfinished(Option<Child>);

impl Unfinished {
    fn pid(&self) -> Pid {
        Pid::from_child(self.0.as_ref().expect("finished once"))
    }

    fn finish(mut self) -> Child {
        self.0.take().expect("finished once")
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        // A guest that restarts, as it does after a panic, ends the engine as one that powers off does.
        (Some(0), _) => "a restart or power-off of the guest".to_owned(),
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// The last lines of a log, on one line.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL)..]).into_owned();
    let lines: Vec<&str> = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[allow(unsafe_code)]
mod owned {
    use super::{Command, CommandExt, RawFd};
    use rustix::io::{FdFlags, fcntl_setfd};
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    use std::io;
    use std::os::fd::BorrowedFd;

    /// Makes the child die with this process, however this process ends, and leaves it the descriptors.
    pub(super) fn die_with_parent_and_inherit(command: &mut Command, inherited: [RawFd; 2]) {
        let parent = rustix::process::getpid();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above took effect.
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            for fd in inherited {
                // SAFETY: the caller of `spawn` owns the descriptor until `spawn` has returned.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                fcntl_setfd(fd, FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes a few system calls and touches no lock and no allocator.
        unsafe { command.pre_exec(prepare) };
    }
}
