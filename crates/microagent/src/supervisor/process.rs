//! The processes that were started through the supervisor.

use super::tail::Tail;
use crate::Error;
use microagent_machine::Channel;
use microagent_machine::channel::{Call, Input, Output};
use microagent_machine::log::BoundedLog;
use microagent_protocol::supervisor::{Ending, ProcessInfo};
use microagent_protocol::{Adopt, Exec, FaultReport, Recipients, Reply, Request, WindowSize};
use microagent_state::snapshot::ProcessPart;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a process that was asked to end because its time is up has to do so.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the guest may take to report the end of a process that was killed. It is not waited for any longer.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long children of a process that has ended may hold its output open.
const DRAIN_MS: u32 = 5_000;
/// How long a process may take to end when the client that started it has gone.
const HANGUP_GRACE: Duration = Duration::from_secs(5);
/// How long the last of what a process said may take to be here once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Processes that have ended, and were not waited for, that are remembered.
const REMEMBERED: usize = 64;

pub(super) const SIGHUP: i32 = 1;
pub(super) const SIGKILL: i32 = 9;
pub(super) const SIGTERM: i32 = 15;

/// A command that is to be started: all that is known of it, and its ends on this side.
pub(super) struct Command {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    pub(super) user: String,
    pub(super) tty: Option<WindowSize>,
    pub(super) stdin: Option<Output>,
    pub(super) clients: [Option<Input>; 2],
    pub(super) logs: [Option<BoundedLog>; 2],
    pub(super) timeout: Option<Duration>,
    pub(super) owner: Owner,
}

/// What a process ends with, besides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The connection of that number.
    Connection(u64),
    /// The workspace.
    Workspace,
}

/// All of them.
pub(super) struct Processes {
    channel: Channel,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    entries: BTreeMap<u64, Arc<Process>>,
}

/// Is told how a process ended, and says whether that has reached anybody outside.
type Waiter = Box<dyn FnOnce(&Ending) -> bool + Send>;

/// One of them.
pub(super) struct Process {
    id: u64,
    /// The guest's name for it: the call that runs it.
    call: u32,
    argv: Vec<String>,
    tty: bool,
    started_ns: u64,
    /// Standard input, until its end was sent.
    stdin: Mutex<Option<Input>>,
    outputs: [Tail; 2],
    state: Mutex<State>,
}

/// A process that is to go on in a copy of its machine.
pub(super) struct Adopted {
    was: u32,
    is_service: bool,
    process: Arc<Process>,
    call: Call,
    outputs: [Output; 2],
}

impl Adopted {
    /// What the guest is told of it.
    pub(super) fn request(&self) -> Adopt {
        let [stdout, stderr] = &self.outputs;
        let stdin = self.process.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        Adopt {
            was: self.was,
            call: self.call.id(),
            stdin: stdin.as_ref().map(Input::id),
            stdout: stdout.id(),
            stderr: stderr.id(),
        }
    }
}

struct State {
    owner: Owner,
    ending: Option<Ending>,
    waiters: Vec<Waiter>,
    /// Somebody was told how it ended.
    told: bool,
}

impl Processes {
    pub(super) fn new(channel: Channel) -> Processes {
        Processes { channel, table: Mutex::default() }
    }

    /// Starts a command. Whether it can be started shows when it has ended.
    pub(super) fn start(self: &Arc<Self>, command: Command) -> Result<Arc<Process>, Error> {
        let Command { argv, env, cwd, user, tty, stdin, clients, logs, timeout, owner } = command;
        let (stdout, stderr) = (self.channel.output(), self.channel.output());
        let (client_in, stdin) = stdin.map(|from| (from, self.channel.input())).unzip();
        let exec = Exec {
            argv: argv.clone(),
            env,
            cwd,
            user,
            tty,
            stdin: stdin.as_ref().map(Input::id),
            stdout: stdout.id(),
            stderr: stderr.id(),
            drain_ms: DRAIN_MS,
        };
        let call = self.channel.call(&Request::Exec(exec))?;
        let ([client_out, client_err], [log_out, log_err]) = (clients, logs);
        let outputs = [Tail::new(client_out, log_out), Tail::new(client_err, log_err)];
        let process = Process {
            id: 0,
            call: call.id(),
            argv,
            tty: tty.is_some(),
            started_ns: now_ns(),
            stdin: Mutex::new(stdin),
            outputs,
            state: Mutex::new(State { owner, ending: None, waiters: Vec::new(), told: false }),
        };
        let process = self.enter(process);
        self.follow(&process, call, [stdout, stderr], timeout);
        if let Some(from) = client_in {
            process.feed(from);
        }
        Ok(process)
    }

    /// Puts a process into the table, under the next number unless it has one.
    fn enter(&self, process: Process) -> Arc<Process> {
        let mut table = self.lock();
        let id = if process.id == 0 { table.last + 1 } else { process.id };
        table.last = table.last.max(id);
        let process = Arc::new(Process { id, ..process });
        table.entries.insert(id, Arc::clone(&process));
        process
    }

    /// Takes in what a process says, and waits for its end, on threads of their own.
    fn follow(self: &Arc<Self>, process: &Arc<Process>, call: Call, outputs: [Output; 2], timeout: Option<Duration>) {
        process.pump(outputs);
        let (processes, watched) = (Arc::clone(self), Arc::clone(process));
        std::thread::spawn(move || {
            let ending = processes.watch(&watched, &call, timeout);
            watched.end(&ending);
            processes.forget_old();
        });
    }

    /// What there is to know of those that run, for whoever goes on with a copy of the machine.
    pub(super) fn parts(&self, service: Option<&Process>) -> Vec<ProcessPart> {
        // One that has been answered has ended, though it may not be known here yet.
        let running = |process: &&Arc<Process>| process.lock().ending.is_none() && self.channel.awaits(process.call);
        let entries: Vec<_> = self.lock().entries.values().filter(running).cloned().collect();
        let part = |process: &Arc<Process>| ProcessPart {
            call: process.call,
            argv: process.argv.clone(),
            started_ns: process.started_ns,
            tty: process.tty,
            detached: process.lock().owner == Owner::Workspace,
            // Whoever holds it is writing to it, and waits for the guest: it is open.
            stdin: match process.stdin.try_lock() {
                Ok(stdin) => stdin.is_some(),
                Err(TryLockError::Poisoned(stdin)) => stdin.into_inner().is_some(),
                Err(TryLockError::WouldBlock) => true,
            },
            service: service.is_some_and(|service| service.id == process.id),
            id: process.id,
        };
        entries.iter().map(part).collect()
    }

    /// Gets ready to go on with processes of a machine that this is a copy of. They belong to the workspace: who had started them is with
    /// the other machine. The service's outputs go into `logs`.
    pub(super) fn adopt(self: &Arc<Self>, parts: &[ProcessPart], mut logs: [Option<BoundedLog>; 2]) -> Vec<Adopted> {
        let adopt = |part: &ProcessPart| {
            let (call, outputs) = (self.channel.reserve_call(), [self.channel.output(), self.channel.output()]);
            let stdin = part.stdin.then(|| self.channel.input());
            let [log_out, log_err] = if part.service { std::mem::take(&mut logs) } else { [None, None] };
            let process = self.enter(Process {
                id: part.id,
                call: call.id(),
                argv: part.argv.clone(),
                tty: part.tty,
                started_ns: part.started_ns,
                stdin: Mutex::new(stdin),
                outputs: [Tail::new(None, log_out), Tail::new(None, log_err)],
                state: Mutex::new(State { owner: Owner::Workspace, ending: None, waiters: Vec::new(), told: false }),
            });
            Adopted { was: part.call, is_service: part.service, process, call, outputs }
        };
        parts.iter().map(adopt).collect()
    }

    /// Goes on with processes that the guest knows by their new names now. Returns the service, if it is among them.
    pub(super) fn go_on(self: &Arc<Self>, adopted: Vec<Adopted>) -> Option<Arc<Process>> {
        let mut service = None;
        for Adopted { is_service, process, call, outputs, .. } in adopted {
            self.follow(&process, call, outputs, None);
            if is_service {
                service = Some(process);
            }
        }
        service
    }

    /// Waits for the end of a process; when its time is up, brings it about.
    fn watch(&self, process: &Process, call: &Call, timeout: Option<Duration>) -> Ending {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match call.wait(deadline) {
            Err(microagent_machine::Error::DeadlinePassed) => {}
            reply => return ending(reply, false),
        }
        // A guest that takes no signals any more takes its time to say so, too.
        let _ = self.signal(process, SIGTERM, Recipients::Group);
        match call.wait(Some(Instant::now() + TERM_GRACE)) {
            Err(microagent_machine::Error::DeadlinePassed) => {}
            reply => {
                // It has ended; others of its session may not have.
                let _ = self.signal(process, SIGKILL, Recipients::Session);
                return ending(reply, true);
            }
        }
        let _ = self.signal(process, SIGKILL, Recipients::Session);
        match call.wait(Some(Instant::now() + KILL_LIMIT)) {
            Err(microagent_machine::Error::DeadlinePassed) => Ending { exit: None, refused: None, timed_out: true },
            reply => ending(reply, true),
        }
    }

    /// The process of that id.
    pub(super) fn find(&self, id: &str) -> Result<Arc<Process>, Error> {
        let found = id.parse().ok().and_then(|id: u64| self.lock().entries.get(&id).cloned());
        found.ok_or_else(|| Error::ProcessUnknown { process: id.to_owned() })
    }

    /// What is known of each.
    pub(super) fn list(&self) -> Vec<ProcessInfo> {
        self.forget_old();
        let entries: Vec<_> = self.lock().entries.values().cloned().collect();
        entries.iter().map(|process| process.info()).collect()
    }

    /// Sends a signal, without waiting for more than its way to the guest.
    pub(super) fn signal(&self, process: &Process, signal: i32, to: Recipients) -> Result<Call, Error> {
        Ok(self.channel.call(&Request::Signal { process: process.call, signal, to })?)
    }

    /// Tells a terminal its size.
    pub(super) fn resize(&self, process: &Process, size: WindowSize) -> Result<Call, Error> {
        Ok(self.channel.call(&Request::Resize { process: process.call, size })?)
    }

    /// Ends what a connection has left: first as a terminal that hangs up does, then for good.
    pub(super) fn hang_up(self: &Arc<Self>, connection: u64) {
        let owned = |process: &&Arc<Process>| {
            let state = process.lock();
            state.owner == Owner::Connection(connection) && state.ending.is_none()
        };
        let left: Vec<_> = self.lock().entries.values().filter(owned).cloned().collect();
        for process in left {
            let processes = Arc::clone(self);
            std::thread::spawn(move || processes.end_orphan(&process));
        }
    }

    fn end_orphan(&self, process: &Arc<Process>) {
        let (sender, ended) = std::sync::mpsc::channel();
        process.when_ended(Box::new(move |_| {
            let _ = sender.send(());
            false
        }));
        let _ = self.signal(process, SIGHUP, Recipients::Session);
        if ended.recv_timeout(HANGUP_GRACE).is_err() {
            let _ = self.signal(process, SIGKILL, Recipients::Session);
        }
    }

    /// Forgets those that ended and of whose end somebody was told, and the oldest others that have ended.
    fn forget_old(&self) {
        let mut table = self.lock();
        table.entries.retain(|_, process| !process.lock().told);
        let ended = |process: &Process| process.lock().ending.is_some();
        let over: Vec<u64> = table.entries.iter().filter(|(_, process)| ended(process)).map(|(&id, _)| id).collect();
        for id in &over[..over.len().saturating_sub(REMEMBERED)] {
            table.entries.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Its id, as clients know it.
    pub(super) fn id(&self) -> String {
        self.id.to_string()
    }

    /// Calls `waiter` when it has ended, or at once if it has.
    pub(super) fn when_ended(&self, waiter: Waiter) {
        let ending = {
            let mut state = self.lock();
            match state.ending.clone() {
                None => {
                    state.waiters.push(waiter);
                    return;
                }
                Some(ending) => ending,
            }
        };
        let told = waiter(&ending);
        self.lock().told |= told;
    }

    fn end(&self, ending: &Ending) {
        let waiters = {
            let mut state = self.lock();
            state.ending = Some(ending.clone());
            std::mem::take(&mut state.waiters)
        };
        for waiter in waiters {
            let told = waiter(ending);
            self.lock().told |= told;
        }
    }

    /// Lets it outlive the connection that started it.
    pub(super) fn detach(&self) {
        self.lock().owner = Owner::Workspace;
    }

    /// Passes on what it says.
    fn pump(self: &Arc<Self>, outputs: [Output; 2]) {
        for (tail, output) in self.outputs.iter().cloned().zip(outputs) {
            let process = Arc::clone(self);
            std::thread::spawn(move || tail.follow(output, || process.lock().owner == Owner::Workspace));
        }
    }

    /// Passes on what a client has for its standard input. The end of the stream is its end; that the client has gone is not, where the
    /// process outlives it.
    fn feed(self: &Arc<Self>, mut from: Output) {
        let process = Arc::clone(self);
        std::thread::spawn(move || {
            let close = || *process.stdin.lock().unwrap_or_else(PoisonError::into_inner) = None;
            loop {
                match from.next_chunk() {
                    Ok(Some(chunk)) => {
                        let mut stdin = process.stdin.lock().unwrap_or_else(PoisonError::into_inner);
                        if stdin.as_mut().is_none_or(|stdin| stdin.write_all(&chunk).is_err()) {
                            return;
                        }
                    }
                    Err(_) if process.lock().owner == Owner::Workspace => return,
                    Ok(None) | Err(_) => return close(),
                }
            }
        });
    }

    /// Sends what it said last, and what it says from now on, to a client, and takes its standard input from there.
    pub(super) fn attach(self: &Arc<Self>, stdin: Option<Output>, clients: [Input; 2]) {
        if let Some(from) = stdin {
            self.feed(from);
        }
        for (tail, client) in self.outputs.iter().cloned().zip(clients) {
            // Off this thread: a client that takes nothing in must not hold up its own connection.
            std::thread::spawn(move || tail.attach(client));
        }
    }

    /// What it said last on both outputs, and whether it had said more before. A client that takes nothing in does not keep it from being known for long.
    pub(super) fn last_words(&self) -> [(Vec<u8>, bool); 2] {
        let deadline = Instant::now() + LAST_WORDS;
        self.outputs.each_ref().map(|tail| tail.last(deadline))
    }

    fn info(&self) -> ProcessInfo {
        let state = self.lock();
        ProcessInfo {
            process: self.id(),
            argv: self.argv.clone(),
            started_ns: self.started_ns,
            tty: self.tty,
            detached: state.owner == Owner::Workspace,
            ending: state.ending.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the guest's answer says of how a command ended.
fn ending(reply: Result<Reply, microagent_machine::Error>, timed_out: bool) -> Ending {
    let refused = |error: Error| Ending { exit: None, refused: Some(FaultReport::new(&error)), timed_out };
    match reply {
        Ok(Reply::Exited(exit)) if exit.is_valid() => Ending { exit: Some(exit), refused: None, timed_out },
        Ok(other) => {
            let what = format!("a command was answered with {other:?}");
            refused(microagent_machine::Error::ProtocolViolation { what }.into())
        }
        Err(source @ microagent_machine::Error::Refused(_)) => refused(Error::NotStarted { source }),
        Err(error) => refused(error.into()),
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
