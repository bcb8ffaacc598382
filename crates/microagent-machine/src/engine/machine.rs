//! A running machine: one process, a byte stream to its guest, and another one to the engine itself.

use super::DiskSpec;
use super::console::Keeper;
use super::qemu::qmp::Monitor;
use crate::Error;
use crate::channel::Channel;
use crate::template::copy_sparse;
use microagent_checkpoint::LoaderFailure;
use microagent_protocol::{Hello, PROTOCOL_VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// How long an engine that has closed the channel may take to end. Milliseconds on an idle host; when it does not end at all, the guest
/// closed the channel and stayed up.
const ENDING: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// How an engine ends whose guest has powered off.
pub(crate) const POWER_OFF: &str = "a restart or power-off of the guest";

/// Bytes of frames that are under way in each direction: several of the largest.
const LINK_BUFFER: usize = 1 << 20;

/// Most bytes of an engine's own log that go into an error.
const LOG_TAIL: usize = 2048;

/// A machine that was launched. Dropping it kills it.
pub struct Machine {
    process: Child,
    killer: Killer,
    channel: Channel,
    pub(super) monitor: Monitor,
    /// Devices and inodes of the engine's ends of its sockets: channel, console, monitor, and the link where there is one.
    pub(super) ends: Vec<(u64, u64)>,
    /// Our end of the network interface.
    link: Option<UnixStream>,
    /// What its RAM was when it began: the file it has mapped.
    pub(super) ram: File,
    /// Devices and inodes of the files it was started with.
    pub(super) files: Vec<(u64, u64)>,
    origin: Origin,
    /// Ends with the process.
    console: Option<Keeper>,
    engine_log: PathBuf,
}

/// Where the guest of a machine comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// It boots.
    Boot,
    /// It was frozen.
    Frozen {
        /// The descriptor of the engine that its state is read from, unless the engine was checkpointed with it.
        state: Option<RawFd>,
        /// What its monotonic clock said at that moment, once that is known.
        monotonic_ns: Option<u64>,
    },
}

/// Numbers of descriptors in the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) channel: RawFd,
    pub(super) console: RawFd,
    pub(super) monitor: RawFd,
    /// Where there is a network interface.
    pub(super) link: Option<RawFd>,
}

/// What has to be remembered of a guest that was frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// What it said when it was up.
    pub hello: Hello,
    /// What its monotonic clock said at that moment, in nanoseconds.
    pub monotonic_ns: u64,
}

/// Where what a machine says goes.
pub(super) struct Logs<'a> {
    /// The guest kernel's console.
    pub(super) serial: &'a Path,
    /// What the engine program prints.
    pub(super) engine: &'a Path,
}

/// The sockets of a machine: our ends, and the ones the engine inherits.
pub(super) struct Sockets {
    channel: (UnixStream, OwnedFd),
    console: (UnixStream, OwnedFd),
    monitor: (Monitor, OwnedFd),
    link: Option<(UnixStream, OwnedFd)>,
}

impl Sockets {
    /// Those of a machine, with or without a network interface.
    pub(super) fn new(network: bool) -> Result<Sockets, Error> {
        let pair = || -> Result<_, Error> {
            let (ours, theirs) = UnixStream::pair().map_err(|source| Error::Channel { source })?;
            Ok((ours, OwnedFd::from(theirs)))
        };
        let link = if network { Some(pair()?) } else { None };
        for end in link.iter().flat_map(|(ours, theirs)| [ours.as_fd(), theirs.as_fd()]) {
            // What the host allows less of makes the interface slower and nothing else.
            let _ = set_socket_send_buffer_size(end, LINK_BUFFER);
        }
        let (ours, theirs) = pair()?;
        Ok(Sockets { channel: pair()?, console: pair()?, monitor: (Monitor::new(ours), theirs), link })
    }

    /// The engine's end of the channel, to be handed over.
    pub(super) fn channel_end(&self) -> BorrowedFd<'_> {
        self.channel.1.as_fd()
    }

    /// The engine's end of the console, to be handed over.
    pub(super) fn console_end(&self) -> BorrowedFd<'_> {
        self.console.1.as_fd()
    }

    /// The engine's end of its monitor, to be handed over.
    pub(super) fn monitor_end(&self) -> BorrowedFd<'_> {
        self.monitor.1.as_fd()
    }

    /// The engine's end of the network interface, to be handed over.
    pub(super) fn link_end(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(|(_, theirs)| theirs.as_fd())
    }

    /// What the engine's ends are called in it.
    pub(super) fn ends(&self) -> Ends {
        Ends {
            channel: self.channel_fd(),
            console: self.console_fd(),
            monitor: self.monitor_fd(),
            link: self.link_end().map(|end| end.as_raw_fd()),
        }
    }

    /// Devices and inodes of the engine's ends, in this order.
    fn identities(&self) -> io::Result<Vec<(u64, u64)>> {
        let ends = [self.channel_end(), self.console_end(), self.monitor_end()].into_iter().chain(self.link_end());
        ends.map(|end| rustix::fs::fstat(end).map(|end| (end.st_dev, end.st_ino)).map_err(io::Error::from)).collect()
    }

    /// The engine's end of the channel to the agent.
    pub(super) fn channel_fd(&self) -> RawFd {
        self.channel.1.as_raw_fd()
    }

    /// The engine's end of the guest kernel's console.
    pub(super) fn console_fd(&self) -> RawFd {
        self.console.1.as_raw_fd()
    }

    /// The engine's end of its monitor.
    pub(super) fn monitor_fd(&self) -> RawFd {
        self.monitor.1.as_raw_fd()
    }

    /// Our end of it, to say something before the engine is there.
    pub(super) fn monitor(&mut self) -> &mut Monitor {
        &mut self.monitor.0
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
    /// Spawns `command`, which finds the engine's ends of `sockets`, and `files`, as inherited descriptors. The first of the files is its
    /// RAM.
    pub(super) fn spawn(
        command: &mut Command,
        logs: &Logs<'_>,
        sockets: Sockets,
        files: &[&File],
        origin: Origin,
    ) -> Result<Machine, Error> {
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
        let ends = sockets.ends();
        let ends_identities = sockets.identities().map_err(launch)?;
        let identity = |file: &&File| file.metadata().map(|file| (file.dev(), file.ino())).ok();
        let identities = files.iter().filter_map(identity).collect();
        let ram = files.first().map(|ram| ram.try_clone().map_err(launch)).transpose()?;
        let ram = ram.expect("a machine has its RAM in a file");
        owned::die_with_parent(command);
        // A copy from a checkpoint is given what it gets, and nothing else.
        if !matches!(origin, Origin::Frozen { state: None, .. }) {
            let own = [ends.channel, ends.console, ends.monitor].into_iter().chain(ends.link);
            owned::inherit_only(command, own.chain(files.iter().map(|file| file.as_raw_fd())).collect());
        }
        let process = Unfinished(Some(command.spawn().map_err(launch)?));
        // With our copies of the engine's ends gone, they close when the engine ends.
        let Sockets { channel: (channel, _), console: (console, _), monitor: (monitor, _), link } = sockets;
        let pidfd = pidfd_open(process.pid(), PidfdFlags::empty()).map_err(|errno| launch(errno.into()))?;
        let console = Keeper::start(console, logs.serial).map_err(log_error(logs.serial))?;
        let channel = Channel::open(channel)?;
        Ok(Machine {
            process: process.finish(),
            killer: Killer { pidfd: Arc::new(pidfd) },
            channel,
            monitor,
            ends: ends_identities,
            ram,
            link: link.map(|(ours, _)| ours),
            files: identities,
            origin,
            console: Some(console),
            engine_log: logs.engine.to_owned(),
        })
    }

    /// The conversation with the guest agent.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Our end of its network interface, once: ethernet frames, each after its length in four bytes, the most significant first. While
    /// nobody has it, what the guest sends is lost.
    pub fn take_link(&mut self) -> Option<UnixStream> {
        self.link.take()
    }

    /// Waits until the engine is up: it has read its command line, and begins with the guest.
    pub fn engine_up(&mut self, deadline: Instant) -> Result<(), Error> {
        self.monitor.greeting(deadline)
    }

    /// Waits until the guest is up, and takes requests. Returns the host's clock at the zero of the guest's monotonic clock, in nanoseconds
    /// since the Unix epoch.
    ///
    /// A guest that was frozen need not be asked for its clock, because that goes on from where it stood. The first one restored from a
    /// state is asked: the engine tells when it has stopped a machine, but it may have stopped its clock milliseconds before.
    pub fn guest_up(&mut self, deadline: Instant) -> Result<u64, Error> {
        let Origin::Frozen { monotonic_ns, .. } = &mut self.origin else {
            self.channel.hello(deadline)?;
            return self.channel.epoch_ns(deadline);
        };
        let resumed = self.monitor.resumed(deadline)?;
        if let Some(monotonic_ns) = monotonic_ns {
            return Ok(resumed.saturating_sub(*monotonic_ns));
        }
        let epoch = self.channel.epoch_ns(deadline)?;
        *monotonic_ns = Some(resumed.saturating_sub(epoch));
        Ok(epoch)
    }

    /// Writes a machine whose guest is up to `state`, all but its RAM, which is in the file it was launched with. It is of no other use
    /// afterwards. Returns what the guest said when it was up.
    pub fn freeze(&mut self, state: &File, deadline: Instant) -> Result<Hello, Error> {
        let hello = self.channel.hello(deadline)?;
        self.monitor.save(state, deadline)?;
        Ok(hello)
    }

    /// Tells a machine that was restored without it what it waits for: the state is complete, and this is what its guest said.
    pub fn load(&mut self, hello: &Hello) -> Result<(), Error> {
        let Origin::Frozen { state, .. } = self.origin else { return Ok(()) };
        if let Some(state) = state {
            self.monitor.load(state)?;
        }
        self.greeted(hello, None)
    }

    /// What has to be remembered to restore other machines as this one was restored, once its guest is up.
    pub fn frozen(&self) -> Option<Frozen> {
        let Origin::Frozen { monotonic_ns: Some(monotonic_ns), .. } = self.origin else { return None };
        Some(Frozen { hello: self.channel.said_hello()?, monotonic_ns })
    }

    /// Takes over what is known of the guest from before it was frozen.
    pub(super) fn greeted(&mut self, hello: &Hello, clock_ns: Option<u64>) -> Result<(), Error> {
        if hello.protocol != PROTOCOL_VERSION {
            return Err(Error::ProtocolVersion { ours: PROTOCOL_VERSION, guests: hello.protocol });
        }
        self.channel.greeted(hello);
        if let Origin::Frozen { monotonic_ns, .. } = &mut self.origin {
            *monotonic_ns = clock_ns;
        }
        Ok(())
    }

    /// What its RAM was when it began. Nobody writes to it.
    pub fn ram(&self) -> &File {
        &self.ram
    }

    /// Copies what its RAM was when it began, holes as holes, to `to`, which is all hole.
    pub fn copy_ram(&self, to: &File) -> Result<(), Error> {
        copy_sparse(&self.ram, to).map_err(|source| Error::Memory { source })
    }

    /// Puts an image in the place of disk `index`, of which the guest knows nothing yet.
    pub fn attach(&mut self, index: usize, disk: &DiskSpec, deadline: Instant) -> Result<(), Error> {
        self.monitor.attach(index, disk.mode, disk.open()?)?;
        self.monitor.settle(deadline)
    }

    /// Takes the image of disk `index` away, which the guest has let go of.
    pub fn detach(&mut self, index: usize, disk: &DiskSpec, deadline: Instant) -> Result<(), Error> {
        self.monitor.detach(index, disk.mode)?;
        self.monitor.settle(deadline)
    }

    /// Stops the virtual processors. Returns when they stand still.
    pub fn pause(&mut self, deadline: Instant) -> Result<(), Error> {
        self.monitor.stop(deadline)
    }

    /// Has the virtual processors go on.
    pub fn resume(&mut self, deadline: Instant) -> Result<(), Error> {
        self.monitor.go_on()?;
        self.monitor.settle(deadline)
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

    /// What is behind an error: of a guest that went away, why it did.
    pub fn explain(&mut self, error: Error) -> Error {
        if matches!(error, Error::GuestLost) { self.post_mortem() } else { error }
    }

    /// Explains why the machine ended on its own: reaps it, and reads what it had to say.
    fn post_mortem(&mut self) -> Error {
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
    if let Some(failure) = LoaderFailure::of(status) {
        return format!("a checkpoint that cannot be continued: {failure}");
    }
    match (status.code(), status.signal()) {
        // A guest that restarts, as it does after a panic, ends the engine as one that powers off does.
        (Some(0), _) => POWER_OFF.to_owned(),
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

/// Has the process of `command` go on when this one ends: it has a session of its own, and none of the descriptors that this process was
/// left by accident.
pub fn leave_behind(command: &mut Command) {
    owned::start_session(command);
    owned::inherit_only(command, Vec::new());
}

#[allow(unsafe_code)]
mod owned {
    use super::{Command, CommandExt, RawFd};
    use rustix::io::{FdFlags, fcntl_setfd};
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    use std::io;
    use std::os::fd::BorrowedFd;

    /// Makes the child die with this process, however this process ends.
    pub(super) fn die_with_parent(command: &mut Command) {
        let parent = rustix::process::getpid();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above took effect.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        // SAFETY: between fork and exec the closure makes a few system calls and touches no lock and no allocator.
        unsafe { command.pre_exec(prepare) };
    }

    /// Gives the child a session of its own.
    pub(super) fn start_session(command: &mut Command) {
        let prepare = || rustix::process::setsid().map(drop).map_err(io::Error::from);
        // SAFETY: between fork and exec the closure makes one system call.
        unsafe { command.pre_exec(prepare) };
    }

    /// Leaves the child these descriptors beyond the standard ones, and none that this process was itself left by accident.
    pub(super) fn inherit_only(command: &mut Command, inherited: Vec<RawFd>) {
        const AFTER_STANDARD: libc::c_uint = 3;
        let prepare = move || {
            // SAFETY: takes no pointer. A kernel without it (before 5.11) leaves the child what it would have been left.
            unsafe { libc::close_range(AFTER_STANDARD, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
            for &fd in &inherited {
                // SAFETY: the caller of `spawn` owns the descriptor until `spawn` has returned.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                fcntl_setfd(fd, FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: as above; and it reads its own list.
        unsafe { command.pre_exec(prepare) };
    }
}
