//! A running machine: one process and one byte stream.

use crate::Error;
use crate::channel::Channel;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

/// Most bytes of an engine's own log that go into an error.
const LOG_TAIL: usize = 2048;

/// A machine that was launched. Dropping it kills it.
pub struct Machine {
    process: Child,
    killer: Killer,
    channel: Channel,
    engine_log: PathBuf,
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
    /// Spawns `command` with its output in `engine_log`, and opens the conversation on `ours`, whose other end the command finds as the
    /// inherited descriptor `theirs`.
    pub(super) fn spawn(
        mut command: Command,
        engine_log: PathBuf,
        ours: UnixStream,
        theirs: OwnedFd,
    ) -> Result<Machine, Error> {
        let program = PathBuf::from(command.get_program());
        let log = std::fs::File::create(&engine_log)
            .map_err(|source| Error::EngineLog { path: engine_log.clone(), source })?;
        let launch = |source| Error::Launch { program: program.clone(), source };
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(launch)?).stderr(log);
        // A group of its own: the terminal's Ctrl-C is for the guest's command, not for the engine.
        command.process_group(0);
        owned::die_with_parent_and_inherit(&mut command, theirs.as_raw_fd());
        let process = command.spawn().map_err(launch)?;
        drop(theirs);
        let pid = rustix::process::Pid::from_child(&process);
        let mut unfinished = Unfinished(Some(process));
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| launch(errno.into()))?;
        let channel = Channel::open(ours)?;
        let process = unfinished.0.take().expect("taken once");
        Ok(Machine { process, killer: Killer { pidfd: Arc::new(pidfd) }, channel, engine_log })
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

    /// Waits until the engine process has ended and is reaped.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.process.wait().map_err(|source| Error::EngineWait { source })
    }

    /// Kills the engine and reaps it.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.killer.kill();
        self.wait().map(drop)
    }

    /// Explains why the machine ended on its own: reaps it, and reads what it had to say.
    pub fn post_mortem(&mut self) -> Error {
        self.killer.kill();
        match self.wait() {
            Err(error) => error,
            // Killed by us just now, which means it was alive: the guest closed the channel and stayed up.
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
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// The last lines of a log, on one line.
fn tail(path: &std::path::Path) -> String {
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

    /// Makes the child die with this process, however this process ends, and leaves it one descriptor.
    pub(super) fn die_with_parent_and_inherit(command: &mut Command, inherited: RawFd) {
        let parent = rustix::process::getpid();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above took effect.
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // SAFETY: the caller of `spawn` owns the descriptor until `spawn` has returned.
            let inherited = unsafe { BorrowedFd::borrow_raw(inherited) };
            fcntl_setfd(inherited, FdFlags::empty())?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes three system calls and touches no lock and no allocator.
        unsafe { command.pre_exec(prepare) };
    }
}
