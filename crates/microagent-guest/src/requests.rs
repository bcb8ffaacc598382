//! What the host asks, and the answers.

use crate::agent::{Agent, Closed, Life, Then};
use crate::identity::{self, uptime_ms};
use crate::process::{Process, TaskStreams};
use crate::refusal::{quoted, refusal};
use crate::sys::{self, Fork};
use crate::workspace::{self, Workspace};
use crate::{private, quiet, stats};
use microagent_protocol::{Boot, Exec, Kind, Recipients, Refusal, RefusalCode, Reply, Request, WindowSize};
use serde::{Deserialize, Serialize};

/// Most commands that run at once. Each takes four descriptors and two windows of the agent.
pub(super) const MAX_COMMANDS: usize = 1024;

impl Agent {
    /// Does what call `call` asks, and queues the reply, now or when it is known.
    pub(super) fn answer(&mut self, call: u32, payload: &[u8]) -> Result<(), Closed> {
        let result = match parse(payload) {
            Ok(Request::Proceed { epoch_ns }) => self.proceed(call, epoch_ns).map(|()| None),
            Ok(Request::Wake(wake)) => self.wake(call, &wake).map(|()| None),
            Ok(Request::Time) => Ok(Some(Reply::Time { monotonic_ns: identity::monotonic_ns() })),
            Ok(_) if self.is_quiet() => Err(quiet::is_quiet()),
            Ok(Request::Quiesce { purge }) => self.quiesce(purge).map(Some),
            Ok(Request::Boot(boot)) => self.boot(&boot).map(Some),
            Ok(Request::Exec(exec)) => self.exec(call, &exec).map(|()| None),
            Ok(Request::Signal { process, signal, to }) => self.signal(process, signal, to).map(|()| Some(Reply::Done)),
            Ok(Request::Resize { process, size }) => self.resize(process, size).map(|()| Some(Reply::Done)),
            Ok(Request::Stats) => self.stats().map(Some),
            Ok(
                request @ (Request::Stat { .. }
                | Request::Pack { .. }
                | Request::Unpack { .. }
                | Request::Changes { .. }
                | Request::PackLayer { .. }
                | Request::Secret { .. }
                | Request::Grow),
            ) => self.task(call, &request).map(|()| None),
            Ok(Request::Connect { port, input, output }) => self.connect(call, port, input, output).map(|()| None),
            Ok(Request::Accept { socket, input, output }) => self.accept(call, socket, input, output).map(|()| None),
            Ok(Request::Sync) => self.sync(call).map(|()| None),
            Ok(Request::Shutdown) => match self.shutdown(call, Then::Spent) {
                Ok(()) => return self.reap_ended(),
                Err(refused) => Err(refused),
            },
            Ok(Request::Release) => match self.shutdown(call, Then::Waiting) {
                Ok(()) => return self.reap_ended(),
                Err(refused) => Err(refused),
            },
            Err(refused) => Err(refused),
        };
        match result {
            Ok(Some(reply)) => self.reply(call, Ok(reply)),
            Ok(None) => {}
            Err(refused) => self.reply(call, Err(refused)),
        }
        Ok(())
    }

    fn boot(&mut self, boot: &Boot) -> Result<Reply, Refusal> {
        let Life::Waiting = self.life else {
            return Err(refusal(RefusalCode::WrongState, "the machine has been booted already"));
        };
        let start = uptime_ms();
        identity::check(&boot.hostname, &boot.machine_id)?;
        identity::check_entropy(&boot.entropy)?;
        private::check(boot)?;
        // What a failed attempt leaves half done cannot be told from what a second one finds.
        self.life = Life::Spent;
        self.life = Life::Ready(Workspace::assemble(boot)?);
        Ok(Reply::Booted { took_ms: uptime_ms() - start })
    }

    fn exec(&mut self, call: u32, exec: &Exec) -> Result<(), Refusal> {
        let outputs = [exec.stdout, exec.stderr];
        self.check_streams(call, &outputs, exec.stdin)?;
        let started = self.start(exec);
        if started.is_ok() && exec.tty.is_some() {
            self.outbox.push_empty(Kind::End, exec.stderr);
        }
        self.follow(call, started, &outputs, exec.stdin)
    }

    fn task(&mut self, call: u32, request: &Request) -> Result<(), Refusal> {
        let streams = match *request {
            Request::Pack { output, .. } | Request::Changes { output } | Request::PackLayer { output } => {
                TaskStreams { output: Some(output), input: None }
            }
            Request::Unpack { input, .. } | Request::Secret { input, .. } => {
                TaskStreams { output: None, input: Some(input) }
            }
            _ => TaskStreams::default(),
        };
        let outputs: Vec<u32> = streams.output.into_iter().collect();
        self.check_streams(call, &outputs, streams.input)?;
        let started =
            self.room_for_one().and_then(|workspace| Process::spawn_task(request, streams, workspace, &self.null));
        self.follow(call, started, &outputs, streams.input)
    }

    pub(super) fn check_streams(&self, call: u32, outputs: &[u32], input: Option<u32>) -> Result<(), Refusal> {
        let streams: Vec<u32> = outputs.iter().copied().chain(input).collect();
        if self.processes.contains_key(&call) || self.forwards.has(call) {
            return Err(refusal(RefusalCode::BadRequest, format!("call {call} is still under way")));
        }
        let doubled = (1..streams.len()).any(|at| streams[..at].contains(&streams[at]));
        if doubled || streams.iter().any(|id| self.streams.contains_key(id) || self.forwards.has_stream(*id)) {
            return Err(refusal(RefusalCode::BadRequest, format!("streams {streams:?} are not all new and different")));
        }
        Ok(())
    }

    /// Takes a process in that has started; ends the streams of one that has not, so that nobody waits for them.
    fn follow(
        &mut self,
        call: u32,
        started: Result<Process, Refusal>,
        outputs: &[u32],
        input: Option<u32>,
    ) -> Result<(), Refusal> {
        match started {
            Ok(process) => {
                self.processes.insert(call, process);
                self.streams.extend(outputs.iter().copied().chain(input).map(|id| (id, call)));
                Ok(())
            }
            Err(refused) => {
                for id in outputs {
                    self.outbox.push_empty(Kind::End, *id);
                }
                if let Some(id) = input {
                    self.outbox.push_empty(Kind::Reset, id);
                }
                Err(refused)
            }
        }
    }

    fn start(&self, exec: &Exec) -> Result<Process, Refusal> {
        let workspace = self.room_for_one()?;
        if exec.argv.is_empty() {
            return Err(refusal(RefusalCode::BadRequest, "the command is empty"));
        }
        if !exec.cwd.starts_with('/') {
            let what = format!("working directory {} is not an absolute path", quoted(&exec.cwd));
            return Err(refusal(RefusalCode::BadRequest, what));
        }
        Process::spawn(exec, workspace, &self.null)
    }

    /// The workspace, if another process may be started in it.
    fn room_for_one(&self) -> Result<&Workspace, Refusal> {
        let Life::Ready(workspace) = &self.life else { return Err(not_ready()) };
        if self.processes.len() >= MAX_COMMANDS {
            return Err(refusal(RefusalCode::System, format!("{MAX_COMMANDS} commands are running already")));
        }
        Ok(workspace)
    }

    fn signal(&mut self, process: u32, signal: i32, to: Recipients) -> Result<(), Refusal> {
        let running = self.processes.get_mut(&process).ok_or_else(|| no_such_process(process))?;
        running.signal(signal, to, &mut self.outbox)
    }

    fn resize(&self, process: u32, size: WindowSize) -> Result<(), Refusal> {
        self.processes.get(&process).ok_or_else(|| no_such_process(process))?.resize(size)
    }

    fn stats(&self) -> Result<Reply, Refusal> {
        let Life::Ready(_) = self.life else { return Err(not_ready()) };
        stats::read(workspace::DISK.as_ref())
            .map(Reply::Stats)
            .map_err(|error| refusal(RefusalCode::System, format!("cannot read the size of the disk: {error}")))
    }

    /// Flushes the disks from a process of its own: it takes as long as the disk takes, and the agent has other things to do.
    fn sync(&mut self, call: u32) -> Result<(), Refusal> {
        let Life::Ready(_) = self.life else { return Err(not_ready()) };
        match sys::fork() {
            Ok(Fork::Child) => {
                // Else it would keep the pipes of commands open for as long.
                sys::close_all_but_standard_and(&self.null);
                rustix::fs::sync();
                sys::exit_now(0)
            }
            Ok(Fork::Parent(pid)) => {
                self.flushes.push((pid, call));
                Ok(())
            }
            Err(error) => Err(refusal(RefusalCode::System, format!("cannot flush the disks: {error}"))),
        }
    }

    /// Kills everything. The rest follows when the last process has been reaped.
    fn shutdown(&mut self, call: u32, then: Then) -> Result<(), Refusal> {
        match std::mem::replace(&mut self.life, Life::Spent) {
            Life::Ready(workspace) => {
                self.life = Life::Stopping(call, workspace, then);
                sys::kill_everything();
                Ok(())
            }
            life => {
                self.life = life;
                Err(not_ready())
            }
        }
    }
}

pub(super) fn not_ready() -> Refusal {
    refusal(RefusalCode::WrongState, "the machine is not booted, or is shutting down")
}

fn no_such_process(process: u32) -> Refusal {
    refusal(RefusalCode::NoSuchProcess, format!("call {process} runs no command"))
}

fn parse(payload: &[u8]) -> Result<Request, Refusal> {
    serde_json::from_slice(payload).map_err(|error| {
        let what = quoted(&error.to_string());
        if is_unknown_verb(payload) {
            refusal(RefusalCode::UnknownVerb, format!("the agent does not know the verb of the request: {what}"))
        } else {
            refusal(RefusalCode::BadRequest, format!("cannot read the request: {what}"))
        }
    })
}

/// Tries the verb alone: what is then wrong with a known one is a missing field, if anything.
fn is_unknown_verb(payload: &[u8]) -> bool {
    #[derive(Serialize, Deserialize)]
    struct Verb {
        verb: String,
    }
    serde_json::from_slice::<Verb>(payload)
        .and_then(|verb| serde_json::to_vec(&verb))
        .and_then(|alone| serde_json::from_slice::<Request>(&alone))
        .is_err_and(|error| error.to_string().starts_with("unknown variant"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_verb_is_told_from_a_malformed_request() {
        let code = |text: &str| parse(text.as_bytes()).unwrap_err().code;
        assert_eq!(code(r#"{"verb":"dance","with":"me"}"#), RefusalCode::UnknownVerb);
        assert_eq!(code(r#"{"verb":"signal"}"#), RefusalCode::BadRequest);
        assert_eq!(code(r#"{"verb":"signal","process":1,"signal":"unknown variant"}"#), RefusalCode::BadRequest);
        assert_eq!(code("not json"), RefusalCode::BadRequest);
    }
}
