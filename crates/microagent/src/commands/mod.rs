//! Set-up lines and the command itself.

pub(crate) mod streams;

use crate::control::feed;
use crate::interrupt::Listening;
use crate::plan::{environment, shell_line};
use crate::progress::{Event, Progress};
use crate::{Error, Interrupt};
use microagent_machine::Channel;
use microagent_machine::engine::{Killer, Machine};
use microagent_protocol::{Exec, Exit, Recipients, Reply, Request};
use microagent_state::WorkspaceRecord;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use streams::{Copies, Streams, Unfinished};

/// How long a command that was asked to stop may take before its machine is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// `SIGINT`: what Ctrl-C sends.
const SIGINT: i32 = 2;

/// Runs the commands of one workspace in its machine, one after the other.
pub(crate) struct Commands<'a> {
    channel: Channel,
    record: &'a WorkspaceRecord,
    env: Vec<String>,
    deadline: Option<Instant>,
    interrupt: Interrupt,
    current: Arc<Current>,
    copies: Arc<Copies>,
    _listening: Listening,
    /// Dropped with this, which calls off the grace period of an interrupt.
    _done: mpsc::Sender<()>,
}

/// Id of the call that runs a command, if one does.
type Current = Mutex<Option<u32>>;

impl<'a> Commands<'a> {
    pub(crate) fn new(
        machine: &Machine,
        record: &'a WorkspaceRecord,
        interrupt: &Interrupt,
        deadline: Option<Instant>,
    ) -> Commands<'a> {
        let current = Arc::new(Current::default());
        let copies = Arc::new(Copies::default());
        let (done, over) = mpsc::channel();
        let stop = Stop {
            copies: Arc::clone(&copies),
            channel: machine.channel().clone(),
            killer: machine.killer(),
            current: Arc::clone(&current),
            over: Mutex::new(Some(over)),
        };
        let listening = interrupt.listen(move |count| stop.escalate(count));
        Commands {
            channel: machine.channel().clone(),
            record,
            env: environment(record, &record.env),
            deadline,
            interrupt: interrupt.clone(),
            current,
            copies,
            _listening: listening,
            _done: done,
        }
    }

    /// Runs the set-up lines, as root, until one fails.
    pub(crate) fn setup(&self, streams: &Streams, progress: &dyn Progress) -> Result<(), Error> {
        let steps = self.record.setup.len();
        for (index, line) in self.record.setup.iter().enumerate() {
            let step = index + 1;
            progress.event(Event::Setup { step, steps });
            let exit = match self.exec(shell_line(line), "", None, streams) {
                Err(Error::NotStarted { source }) => return Err(Error::SetupNotStarted { step, steps, source }),
                exit => exit?,
            };
            if self.interrupt.is_stopped() {
                return Err(Error::Interrupted);
            }
            if exit.status() != 0 {
                return Err(Error::SetupFailed { step, steps, exit_code: exit.status(), line: line.clone() });
            }
        }
        Ok(())
    }

    /// Runs the command.
    pub(crate) fn main(&self, streams: &mut Streams) -> Result<Exit, Error> {
        let stdin = streams.stdin.take();
        self.exec(self.record.command.clone(), &self.record.user, stdin, streams)
    }

    fn exec(
        &self,
        argv: Vec<String>,
        user: &str,
        stdin: Option<Box<dyn Read + Send>>,
        streams: &Streams,
    ) -> Result<Exit, Error> {
        let (stdout, stderr) = (self.channel.output(), self.channel.output());
        let stdin = stdin.map(|reader| (reader, self.channel.input()));
        let exec = Exec {
            argv,
            env: self.env.clone(),
            cwd: self.record.workdir.clone(),
            user: user.to_owned(),
            tty: None,
            stdin: stdin.as_ref().map(|(_, input)| input.id()),
            stdout: stdout.id(),
            stderr: stderr.id(),
            drain_ms: 0,
        };
        streams.stdout.copy(stdout, self.copies.begin());
        streams.stderr.copy(stderr, self.copies.begin());
        let call = self.channel.call(&Request::Exec(exec))?;
        self.set_current(Some(call.id()));
        if let Some((reader, input)) = stdin {
            std::thread::spawn(move || feed(reader, input));
        }
        let reply = call.wait(self.deadline);
        self.set_current(None);
        match reply {
            Ok(Reply::Exited(exit)) if exit.is_valid() => {
                // The guest says it has sent everything; the caller's writers may still be taking it in.
                match self.copies.wait(self.deadline) {
                    Ok(()) => Ok(exit),
                    Err(Unfinished::Late) => Err(microagent_machine::Error::DeadlinePassed.into()),
                    Err(Unfinished::GivenUp) => Err(Error::Interrupted),
                }
            }
            Ok(other) => {
                let what = format!("a command was answered with {other:?}");
                Err(microagent_machine::Error::ProtocolViolation { what }.into())
            }
            Err(source @ microagent_machine::Error::Refused(_)) => Err(Error::NotStarted { source }),
            Err(error) => Err(error.into()),
        }
    }

    fn set_current(&self, process: Option<u32>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }
}

/// What an interrupt does: asks the command to end, gives it [`STOP_GRACE`], then kills the machine.
struct Stop {
    channel: Channel,
    killer: Killer,
    copies: Arc<Copies>,
    current: Arc<Current>,
    over: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Stop {
    fn escalate(&self, count: u32) {
        let process = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(process), Some(over), 1) = (process, over, count) else {
            self.copies.give_up();
            return self.killer.kill();
        };
        let (channel, killer, copies) = (self.channel.clone(), self.killer.clone(), Arc::clone(&self.copies));
        // Off this thread: a guest that takes nothing in would hold up the next stop.
        std::thread::spawn(move || {
            // A failure means that the guest is gone, which ends the run by itself.
            let _ = channel.call(&Request::Signal { process, signal: SIGINT, to: Recipients::Group });
            if over.recv_timeout(STOP_GRACE) == Err(mpsc::RecvTimeoutError::Timeout) {
                copies.give_up();
                killer.kill();
            }
        });
    }
}
