//! A command as its parent sees it.

use crate::command::{self, Pipes};
use crate::identity::now_ns;
use crate::outbox::Outbox;
use crate::refusal::refusal;
use crate::streams::{Input, Output};
use crate::sys::{self, Fork};
use crate::vmstat;
use microagent_protocol::{Exec, Exit, Frame, Kind, Refusal, RefusalCode, Reply};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitStatus};
use std::time::{Duration, Instant};

/// Most bytes of a child's report read; its messages are bounded far below.
const MAX_REPORT: usize = 16 << 10;

/// One command, from the fork until its reply is queued.
pub(crate) struct Process {
    pid: Pid,
    phase: Phase,
    /// Standard input, where the host sends one.
    pub(crate) stdin: Option<Input>,
    /// Standard output and standard error.
    pub(crate) outputs: [Output; 2],
    drain: Duration,
    started_ns: u64,
    oom_kills: u64,
}

enum Phase {
    /// Forked; whether the program runs is not known yet. Signals that arrive meanwhile are kept, one bit each: the process
    /// group they are for does not exist yet.
    Starting { report: OwnedFd, text: Vec<u8>, signals: u64 },
    /// The program runs.
    Running,
    /// The program has ended. Its children may hold its output open until `drained`.
    Ended { exit: Exit, drained: Instant },
    /// The program never ran.
    Refused(Refusal),
}

impl Process {
    /// Forks the command. Whether it runs shows later, on [`Process::report`]. Its input is `null` if the host sends none.
    pub(crate) fn spawn(exec: &Exec, workspace: BorrowedFd<'_>, null: &OwnedFd) -> Result<Process, Refusal> {
        let (ours, theirs) = connect(exec, null).map_err(cannot_start)?;
        let (oom_kills, started_ns) = (vmstat::oom_kills(), now_ns());
        match sys::fork().map_err(cannot_start)? {
            Fork::Child => command::become_command(exec, workspace, &theirs),
            Fork::Parent(pid) => Ok(Process {
                pid,
                phase: Phase::Starting { report: ours.report, text: Vec::new(), signals: 0 },
                stdin: ours.stdin,
                outputs: ours.outputs,
                drain: Duration::from_millis(exec.drain_ms.into()),
                started_ns,
                oom_kills,
            }),
        }
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
        let Phase::Starting { report, text, signals } = &mut self.phase else { return };
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
        if text.is_empty() {
            let signals = *signals;
            self.phase = Phase::Running;
            (1..=sys::LAST_SIGNAL).filter(|signal| signals & bit(*signal) != 0).for_each(|signal| {
                // The command may have ended by itself.
                let _ = sys::signal_group(self.pid, signal);
            });
        } else {
            let refused = serde_json::from_slice(text)
                .unwrap_or_else(|_| refusal(RefusalCode::System, "the command's setup ended early"));
            self.phase = Phase::Refused(refused);
        }
    }

    /// Whether this is the process, not reaped yet, of that id.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.pid == pid && !matches!(self.phase, Phase::Ended { .. })
    }

    /// Takes in the end of the process.
    pub(crate) fn ended(&mut self, status: WaitStatus) {
        // The child had its last word before it ended, but it may not have been read yet.
        self.read_report();
        if matches!(self.phase, Phase::Refused(_)) {
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

    /// Sends a signal to the process group.
    pub(crate) fn signal(&mut self, signal: i32) -> Result<(), Refusal> {
        if !(1..=sys::LAST_SIGNAL).contains(&signal) {
            let what = format!("signal {signal} is not between 1 and {}", sys::LAST_SIGNAL);
            return Err(refusal(RefusalCode::BadRequest, what));
        }
        match &mut self.phase {
            Phase::Starting { signals, .. } => {
                *signals |= bit(signal);
                Ok(())
            }
            Phase::Running => sys::signal_group(self.pid, signal).map_err(|error| {
                refusal(RefusalCode::System, format!("cannot send signal {signal} to the command: {error}"))
            }),
            // Its process id is free to be someone else's by now.
            Phase::Ended { .. } | Phase::Refused(_) => {
                Err(refusal(RefusalCode::NoSuchProcess, "the command has ended"))
            }
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
        let reply = match &self.phase {
            Phase::Starting { .. } | Phase::Running => return false,
            Phase::Refused(refused) => {
                self.outputs.iter_mut().for_each(|output| output.end(outbox));
                Reply::Refused(refused.clone())
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
                Reply::Exited(exit.clone())
            }
        };
        if let Some(stdin) = &mut self.stdin {
            stdin.abandon(outbox);
        }
        push_reply(outbox, call, &reply);
        true
    }
}

/// Queues the reply that ends a call.
pub(crate) fn push_reply(outbox: &mut Outbox, call: u32, reply: &Reply) {
    let payload = serde_json::to_vec(reply).expect("replies have only string keys");
    outbox.push(&Frame::new(Kind::Reply, call, payload));
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The agent's ends of a command's pipes.
struct Ends {
    stdin: Option<Input>,
    outputs: [Output; 2],
    report: OwnedFd,
}

fn connect(exec: &Exec, null: &OwnedFd) -> rustix::io::Result<(Ends, Pipes)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (stdin, to_stdin) = exec.stdin.map(|_| pipe()).transpose()?.unzip();
    let stdin = stdin.map_or_else(|| fcntl_dupfd_cloexec(null, 0), Ok)?;
    let (from_stdout, stdout) = pipe()?;
    let (from_stderr, stderr) = pipe()?;
    let (from_report, report) = pipe()?;
    // Only the agent's ends: the command expects its own to block.
    for end in [&from_stdout, &from_stderr, &from_report].into_iter().chain(&to_stdin) {
        ioctl_fionbio(end, true)?;
    }
    let ends = Ends {
        stdin: exec.stdin.zip(to_stdin).map(|(id, pipe)| Input::new(id, pipe)),
        outputs: [Output::new(exec.stdout, from_stdout), Output::new(exec.stderr, from_stderr)],
        report: from_report,
    };
    Ok((ends, Pipes { stdin, stdout, stderr, report }))
}

fn cannot_start(error: Errno) -> Refusal {
    refusal(RefusalCode::System, format!("cannot start a process: {error}"))
}
