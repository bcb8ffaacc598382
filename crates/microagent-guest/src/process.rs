//! A command as its parent sees it.

use crate::command::{self, Pipes};
use crate::identity::now_ns;
use crate::outbox::Outbox;
use crate::refusal::refusal;
use crate::streams::{Input, Output};
use crate::sys::{self, Fork};
use crate::workspace::Workspace;
use crate::{session, task, terminal, vmstat};
use microagent_protocol::{
    Adopt, Exec, Exit, Frame, Kind, Recipients, Refusal, RefusalCode, Reply, Request, WindowSize,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionbio};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, WaitStatus};
use std::time::{Duration, Instant};

/// Most bytes of a child's report read; its messages are bounded far below.
const MAX_REPORT: usize = 16 << 10;

/// Least time that children of a command which held a terminal are given: the kernel tells its end only after what was printed has made its
/// way through.
const TERMINAL_DRAIN: Duration = Duration::from_secs(1);

/// Bytes between the agent and a process that reads or writes archives, so that each has something to do while the other has.
const ARCHIVE_PIPE: usize = 256 << 10;

const SIGKILL: i32 = 9;

/// One command or task, from the fork until its reply is queued.
pub(crate) struct Process {
    pid: Pid,
    /// Not reaped yet: the process id is its own.
    alive: bool,
    work: Work,
    phase: Phase,
    /// Standard input, where the host sends one.
    pub(crate) stdin: Option<Input>,
    /// Standard output, and standard error where it is another stream.
    pub(crate) outputs: Vec<Output>,
    /// The master of its terminal.
    terminal: Option<OwnedFd>,
    drain: Duration,
    started_ns: u64,
    oom_kills: u64,
}

/// What the process is for.
enum Work {
    /// It becomes a program of the workspace.
    Command,
    /// It is the agent's own, and its report is the reply.
    Task { given_up: bool, secret: bool },
}

enum Phase {
    /// Forked, and its report is not complete yet. A command's ends when the program runs; signals that arrive before are kept, one bit
    /// each: the process group they are for does not exist yet.
    Starting { report: OwnedFd, text: Vec<u8>, signals: u64 },
    /// The program runs.
    Running,
    /// The program has ended. Its children may hold its output open until `drained`.
    Ended { exit: Exit, drained: Instant },
    /// The task is done, but not all it wrote is sent. The reply as it goes out.
    Done(Vec<u8>),
    /// The program never ran, or the task was not done.
    Refused(Refusal),
}

impl Process {
    /// Forks the command. Whether it runs shows later, on [`Process::report`]. Its input is `null` if the host sends none.
    pub(crate) fn spawn(exec: &Exec, workspace: &Workspace, null: &OwnedFd) -> Result<Process, Refusal> {
        let (ends, pipes) = match exec.tty {
            Some(size) => connect_terminal(exec, workspace, size),
            None => connect(exec, null),
        }
        .map_err(cannot_start)?;
        let drain = Duration::from_millis(exec.drain_ms.into());
        let drain = if exec.tty.is_some() { drain.max(TERMINAL_DRAIN) } else { drain };
        fork(Work::Command, ends, drain, || command::become_command(exec, workspace.namespace(), &pipes))
    }

    /// Forks a process of the agent's own that does what `request` asks, with the streams it names.
    pub(crate) fn spawn_task(
        request: &Request,
        streams: TaskStreams,
        workspace: &Workspace,
        null: &OwnedFd,
    ) -> Result<Process, Refusal> {
        let secret = matches!(request, Request::Secret { .. });
        let (ends, pipes) = connect_task(streams, secret, null).map_err(cannot_start)?;
        let work = Work::Task { given_up: false, secret };
        fork(work, ends, Duration::ZERO, || task::perform(request, workspace, &pipes))
    }

    /// The pipe on which the child says why its program does not run, until that is known.
    pub(crate) fn report(&self) -> Option<BorrowedFd<'_>> {
        match &self.phase {
            Phase::Starting { report, .. } => Some(report.as_fd()),
            _ => None,
        }
    }

    /// Reads the report. Its end without a word means that the program has taken over.
    pub(crate) fn read_report(&mut self) {
        let Phase::Starting { report, text, .. } = &mut self.phase else { return };
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&*report, &mut buffer) {
                Ok(0) => break,
                Ok(count) if text.len() < MAX_REPORT => text.extend_from_slice(&buffer[..count]),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => break,
            }
        }
        self.take_report();
    }

    /// Makes of the report what it means, whether or not its end has been seen.
    fn take_report(&mut self) {
        let Phase::Starting { text, signals, .. } = &self.phase else { return };
        self.phase = match &self.work {
            Work::Task { given_up: true, .. } => {
                Phase::Refused(refusal(RefusalCode::Cancelled, "it was given up as asked"))
            }
            Work::Task { .. } => match task::outcome(text) {
                Some(Ok(reply)) => Phase::Done(reply),
                Some(Err(refused)) => Phase::Refused(refused),
                None if vmstat::oom_kills() != self.oom_kills => {
                    Phase::Refused(refusal(RefusalCode::System, "the guest ran out of memory before it was done"))
                }
                None => Phase::Refused(refusal(RefusalCode::System, "it was killed before it was done")),
            },
            Work::Command if text.is_empty() => {
                (1..=sys::LAST_SIGNAL).filter(|signal| signals & bit(*signal) != 0).for_each(|signal| {
                    // The command may have ended by itself.
                    let _ = sys::signal_group(self.pid, signal);
                });
                Phase::Running
            }
            Work::Command => Phase::Refused(
                serde_json::from_slice(text)
                    .unwrap_or_else(|_| refusal(RefusalCode::System, "the command's setup ended early")),
            ),
        };
    }

    /// Whether it runs a program of the workspace.
    pub(crate) fn is_command(&self) -> bool {
        matches!(self.work, Work::Command)
    }

    /// Whether it puts a secret into its file.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.work, Work::Task { secret: true, .. })
    }

    /// Goes on for a host that knows it by other ids. Returns those of the streams that may go on.
    pub(crate) fn adopt(&mut self, adopt: &Adopt, outbox: &mut Outbox) -> Vec<u32> {
        match (&mut self.stdin, adopt.stdin) {
            (Some(stdin), Some(id)) => stdin.adopt(id, outbox),
            (Some(stdin), None) => stdin.orphan(outbox),
            (None, Some(id)) => outbox.push_empty(Kind::Reset, id),
            (None, None) => {}
        }
        let outputs = [adopt.stdout, adopt.stderr];
        for (output, id) in self.outputs.iter_mut().zip(outputs) {
            output.adopt(id, outbox);
        }
        // A terminal's is one.
        for id in &outputs[self.outputs.len()..] {
            outbox.push_empty(Kind::End, *id);
        }
        let stdin = adopt.stdin.filter(|_| self.stdin.is_some());
        outputs[..self.outputs.len()].iter().copied().chain(stdin).collect()
    }

    /// Goes on for nobody, if it is a command; a task is given up.
    pub(crate) fn give_away(self) {
        if self.alive && !self.is_command() {
            // It may have ended by itself.
            let _ = sys::signal_process(self.pid, SIGKILL);
        }
    }

    /// Whether this is the process, not reaped yet, of that id.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.alive && self.pid == pid
    }

    /// Takes in the end of the process.
    pub(crate) fn ended(&mut self, status: WaitStatus) {
        self.alive = false;
        // It had its last word before it ended, but that may not have been read yet. Its end may not show: a process that was forked
        // meanwhile holds the pipe for a moment.
        self.read_report();
        self.take_report();
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.outputs.iter_mut().for_each(Output::writer_ended);
        let exit = Exit {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            started_ns: self.started_ns,
            exited_ns: now_ns(),
            out_of_memory: vmstat::oom_kills() != self.oom_kills,
        };
        self.phase = Phase::Ended { exit, drained: Instant::now() + self.drain };
    }

    /// Sends a signal to the process group or the session. A task is given up instead.
    pub(crate) fn signal(&mut self, signal: i32, to: Recipients, outbox: &mut Outbox) -> Result<(), Refusal> {
        if !(1..=sys::LAST_SIGNAL).contains(&signal) {
            let what = format!("signal {signal} is not between 1 and {}", sys::LAST_SIGNAL);
            return Err(refusal(RefusalCode::BadRequest, what));
        }
        let failed =
            |error| refusal(RefusalCode::System, format!("cannot send signal {signal} to the command: {error}"));
        match (&mut self.phase, &self.work, to) {
            (Phase::Starting { .. }, Work::Task { .. }, _) => self.give_up(signal, outbox).map_err(failed),
            (Phase::Starting { signals, .. }, Work::Command, _) => {
                *signals |= bit(signal);
                Ok(())
            }
            (Phase::Running, _, Recipients::Group) => sys::signal_group(self.pid, signal).map_err(failed),
            (Phase::Running, _, Recipients::Session) => self.signal_session(signal),
            // Until its last process has ended nobody else's session can have that id.
            (Phase::Ended { .. }, _, Recipients::Session) if !session::is_taken(self.pid) => {
                self.signal_session(signal)
            }
            (Phase::Ended { .. } | Phase::Done(_) | Phase::Refused(_), ..) => Err(has_ended()),
        }
    }

    fn signal_session(&self, signal: i32) -> Result<(), Refusal> {
        if session::signal(self.pid, signal) == 0 { Err(has_ended()) } else { Ok(()) }
    }

    /// Ends a task. Without its streams it comes to an end by itself and takes back what it left half done.
    fn give_up(&mut self, signal: i32, outbox: &mut Outbox) -> rustix::io::Result<()> {
        if let Work::Task { given_up, .. } = &mut self.work {
            *given_up = true;
        }
        if signal == SIGKILL || (self.stdin.is_none() && self.outputs.is_empty()) {
            return sys::signal_process(self.pid, SIGKILL);
        }
        if let Some(stdin) = &mut self.stdin {
            stdin.abandon(outbox);
        }
        self.abandon_output(outbox);
        Ok(())
    }

    /// Tells the command's terminal its new size.
    pub(crate) fn resize(&self, size: WindowSize) -> Result<(), Refusal> {
        match (&self.phase, &self.terminal) {
            (Phase::Ended { .. } | Phase::Done(_) | Phase::Refused(_), _) => Err(has_ended()),
            (_, None) => Err(refusal(RefusalCode::BadRequest, "the command has no terminal")),
            (_, Some(master)) => terminal::resize(master, size).map_err(|error| {
                refusal(RefusalCode::System, format!("cannot resize the command's terminal: {error}"))
            }),
        }
    }

    /// The host wants no more of that output. A terminal nobody looks at is hung up.
    pub(crate) fn reset(&mut self, stream: u32, outbox: &mut Outbox) {
        let Some(output) = self.outputs.iter_mut().find(|output| output.id() == stream) else { return };
        output.reset();
        if self.terminal.take().is_some()
            && let Some(stdin) = &mut self.stdin
        {
            stdin.abandon(outbox);
        }
    }

    /// When to stop waiting for children of the command that hold its output open.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Ended { drained, .. }
                if self.outputs.iter().any(|output| output.is_settled() && !output.is_closed()) =>
            {
                Some(*drained)
            }
            _ => None,
        }
    }

    /// Gives up on everything that is still to come.
    pub(crate) fn abandon_output(&mut self, outbox: &mut Outbox) {
        self.outputs.iter_mut().for_each(|output| output.end(outbox));
    }

    /// Queues the reply to call `call` if the command is over and all it wrote is queued. True when that is so.
    pub(crate) fn finish(&mut self, call: u32, outbox: &mut Outbox) -> bool {
        let reply = match &mut self.phase {
            Phase::Starting { .. } | Phase::Running => return false,
            Phase::Refused(refused) => {
                self.outputs.iter_mut().for_each(|output| output.end(outbox));
                encode(&Reply::Refused(refused.clone()))
            }
            Phase::Ended { exit, drained } => {
                let over = Instant::now() >= *drained;
                self.outputs
                    .iter_mut()
                    .filter(|output| over && output.is_settled())
                    .for_each(|output| output.end(outbox));
                if !self.outputs.iter().all(Output::is_closed) {
                    return false;
                }
                encode(&Reply::Exited(exit.clone()))
            }
            // Nobody writes any more, so each ends when all has been read.
            Phase::Done(_) if !self.outputs.iter().all(Output::is_closed) => return false,
            Phase::Done(reply) => std::mem::take(reply),
        };
        if let Some(stdin) = &mut self.stdin {
            stdin.abandon(outbox);
        }
        outbox.push(&Frame::new(Kind::Reply, call, reply));
        true
    }
}

/// Queues the reply that ends a call.
pub(crate) fn push_reply(outbox: &mut Outbox, call: u32, reply: &Reply) {
    outbox.push(&Frame::new(Kind::Reply, call, encode(reply)));
}

fn encode(reply: &Reply) -> Vec<u8> {
    serde_json::to_vec(reply).expect("replies have only string keys")
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn has_ended() -> Refusal {
    refusal(RefusalCode::NoSuchProcess, "the command has ended")
}

/// The agent's ends of a process's pipes.
struct Ends {
    stdin: Option<Input>,
    outputs: Vec<Output>,
    terminal: Option<OwnedFd>,
    report: OwnedFd,
}

/// The streams of a task; it has one at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TaskStreams {
    /// Stream the host sends.
    pub(crate) input: Option<u32>,
    /// Stream the guest sends.
    pub(crate) output: Option<u32>,
}

/// Splits off a process, in which `child` never returns.
fn fork(
    work: Work,
    ends: Ends,
    drain: Duration,
    child: impl FnOnce() -> Result<Process, Refusal>,
) -> Result<Process, Refusal> {
    let (oom_kills, started_ns) = (vmstat::oom_kills(), now_ns());
    match sys::fork().map_err(cannot_start)? {
        Fork::Child => child(),
        Fork::Parent(pid) => Ok(Process {
            pid,
            alive: true,
            work,
            phase: Phase::Starting { report: ends.report, text: Vec::new(), signals: 0 },
            stdin: ends.stdin,
            outputs: ends.outputs,
            terminal: ends.terminal,
            drain,
            started_ns,
            oom_kills,
        }),
    }
}

fn connect(exec: &Exec, null: &OwnedFd) -> rustix::io::Result<(Ends, Pipes)> {
    let (stdin, to_stdin) = exec.stdin.map(|_| to_child()).transpose()?.unzip();
    let stdin = stdin.map_or_else(|| fcntl_dupfd_cloexec(null, 0), Ok)?;
    let (from_stdout, stdout) = from_child()?;
    let (from_stderr, stderr) = from_child()?;
    let (from_report, report) = from_child()?;
    let ends = Ends {
        stdin: exec.stdin.zip(to_stdin).map(|(id, pipe)| Input::new(id, pipe)),
        outputs: vec![Output::new(exec.stdout, from_stdout), Output::new(exec.stderr, from_stderr)],
        terminal: None,
        report: from_report,
    };
    Ok((ends, Pipes { stdin, stdout, stderr, report }))
}

fn connect_terminal(exec: &Exec, workspace: &Workspace, size: WindowSize) -> rustix::io::Result<(Ends, Pipes)> {
    let again = |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, 0);
    let (master, end) = terminal::open(workspace.terminals(), size)?;
    let (from_report, report) = from_child()?;
    let ends = Ends {
        stdin: exec.stdin.map(|id| again(&master).map(|master| Input::of_terminal(id, master))).transpose()?,
        outputs: vec![Output::of_terminal(exec.stdout, again(&master)?)],
        terminal: Some(master),
        report: from_report,
    };
    Ok((ends, Pipes { stdin: again(&end)?, stdout: again(&end)?, stderr: end, report }))
}

fn connect_task(streams: TaskStreams, secret: bool, null: &OwnedFd) -> rustix::io::Result<(Ends, Pipes)> {
    let again = || fcntl_dupfd_cloexec(null, 0);
    let (stdin, to_stdin) = streams.input.map(|_| to_child()).transpose()?.unzip();
    let (from_stdout, stdout) = streams.output.map(|_| from_child()).transpose()?.unzip();
    for pipe in to_stdin.iter().chain(&from_stdout) {
        // A smaller one works too.
        let _ = fcntl_setpipe_size(pipe, ARCHIVE_PIPE);
    }
    let (from_report, report) = from_child()?;
    let feed = if secret { Input::of_secret } else { Input::new };
    let ends = Ends {
        stdin: streams.input.zip(to_stdin).map(|(id, pipe)| feed(id, pipe)),
        outputs: streams.output.zip(from_stdout).map(|(id, pipe)| Output::new(id, pipe)).into_iter().collect(),
        terminal: None,
        report: from_report,
    };
    let (stdin, stdout) = (stdin.map_or_else(again, Ok)?, stdout.map_or_else(again, Ok)?);
    Ok((ends, Pipes { stdin, stdout, stderr: again()?, report }))
}

/// A pipe to the child: its end, which blocks as programs expect, and ours, which does not.
fn to_child() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&ours, true)?;
    Ok((theirs, ours))
}

/// A pipe from the child: our end, and its.
fn from_child() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

fn cannot_start(error: Errno) -> Refusal {
    refusal(RefusalCode::System, format!("cannot start a process: {error}"))
}
