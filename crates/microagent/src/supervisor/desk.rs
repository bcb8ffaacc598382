//! What clients ask, and the answers.

use super::process::{Command, Owner, Process, Processes};
use super::{Happening, page, relay};
use crate::Error;
use crate::plan::{check_text, environment};
use crate::snapshot::Wanted;
use microagent_machine::Channel;
use microagent_machine::channel::{Call, Peer};
use microagent_machine::engine::Killer;
use microagent_protocol::supervisor::{
    Amendment, Answer, Ask, Because, Greeting, HttpGet, Running, Start, Taken, Usage,
};
use microagent_protocol::{FaultReport, Reply, Request};
use microagent_state::snapshot::{SnapshotKind, Tag};
use microagent_state::{Phase, WorkspaceRecord};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the guest may take to answer what costs it nothing.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// Longest time that a server of the guest is given to answer.
const PAGE_LIMIT: Duration = Duration::from_hours(1);

/// Most connections at once. Each takes two descriptors and a thread.
const MAX_CONNECTIONS: usize = 256;

/// How long to wait before accepting again when that failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Something that a client asks of the one who runs the machine.
pub(super) enum Order {
    Halt(Because),
    Kill(Because),
    Pause(Because),
    Resume(Because),
    Quarantine(Because),
    Snapshot(Wanted, Because, TakenAnswerer),
    Amend(Box<Amendment>, Because),
}

/// Says what became of an order.
pub(super) type Answerer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Says what became of a snapshot.
pub(super) type TakenAnswerer = Box<dyn FnOnce(Result<Taken, Error>) + Send>;

/// What is known to all connections.
pub(super) struct Desk {
    pub(super) record: WorkspaceRecord,
    pub(super) channel: Channel,
    pub(super) processes: Arc<Processes>,
    pub(super) running: Running,
    pub(super) phase: Mutex<Phase>,
    pub(super) told: Sender<Happening>,
    pub(super) killer: Killer,
    /// Whether the machine is to be written down as evidence, or is being: nobody kills it before that is done.
    pub(super) awaits_evidence: AtomicBool,
    /// How many connections there have been.
    pub(super) connections: AtomicU64,
    /// How many there are.
    pub(super) open: AtomicUsize,
}

impl Desk {
    /// Serves whoever connects, each on a thread of its own, for as long as the process lives.
    pub(super) fn listen(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            let desk = Arc::clone(self);
            match stream {
                // Those who are turned away see their connection end.
                Ok(_) if self.open.load(Ordering::Relaxed) >= MAX_CONNECTIONS => {}
                Ok(stream) => {
                    self.open.fetch_add(1, Ordering::Relaxed);
                    std::thread::spawn(move || {
                        Arc::clone(&desk).serve(stream);
                        desk.open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                // Out of descriptors, most likely, of which no event tells when there are some again.
                Err(_) => std::thread::sleep(ACCEPT_AGAIN),
            }
        }
    }

    fn serve(self: Arc<Self>, stream: UnixStream) {
        let greeting = Greeting {
            protocol: microagent_protocol::supervisor::SUPERVISOR_PROTOCOL_VERSION,
            supervisor: env!("CARGO_PKG_VERSION").to_owned(),
            workspace: self.record.name.to_string(),
            session: self.record.session.clone().unwrap_or_default(),
        };
        let Ok(peer) = Peer::greet(stream, &greeting) else { return };
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        // A failure means that the client has left, which is how every connection ends.
        let _ = peer.serve(|call, payload| Client { desk: &self, peer: &peer, connection, call }.take(payload));
        self.processes.hang_up(connection);
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Passes an order on to the main thread.
    pub(super) fn order(&self, order: Order, answerer: Answerer) {
        let is_the_end = matches!(order, Order::Kill(_) | Order::Quarantine(_));
        if matches!(&order, Order::Snapshot(wanted, ..) if wanted.kind == SnapshotKind::Forensic) {
            self.awaits_evidence.store(true, Ordering::SeqCst);
        }
        if let Err(unheard) = self.told.send(Happening::Ordered(order, answerer)) {
            let lost = || microagent_machine::Error::GuestLost.into();
            match unheard.0 {
                Happening::Ordered(Order::Snapshot(_, _, answerer), _) => answerer(Err(lost())),
                Happening::Ordered(_, answerer) => answerer(Err(lost())),
                _ => {}
            }
        } else if is_the_end && !self.awaits_evidence.load(Ordering::SeqCst) {
            // The main thread may be waiting for a guest that takes its time. It hears of the order before it hears of the machine's end.
            self.killer.kill();
        }
    }

    /// Fails unless the guest can do things.
    fn check_running(&self, doing: &'static str) -> Result<(), Error> {
        match self.phase() {
            Phase::Running => Ok(()),
            state => Err(Error::WrongState { name: self.record.name.to_string(), state, doing }),
        }
    }

    /// Starts a command with the defaults of the workspace.
    fn start(&self, start: Start, peer: &Peer, owner: Owner) -> Result<Arc<Process>, Error> {
        // First of all its streams: they end with a refusal.
        let stream = |id: Option<u32>| id.map(|id| peer.input(id)).transpose();
        let stdin = start.stdin.map(|id| peer.output(id)).transpose();
        let (stdin, stdout, stderr) = (
            stdin.map_err(Error::from)?,
            stream(start.stdout).map_err(Error::from)?,
            stream(start.stderr).map_err(Error::from)?,
        );
        self.check_running("run a command in")?;
        start.argv.iter().try_for_each(|word| check_text("command", word))?;
        if start.argv.is_empty() {
            return Err(Error::BadOption {
                option: "argv",
                value: String::new(),
                reason: "it needs the name of a program".to_owned(),
            });
        }
        let mut own = self.record.env.clone();
        own.extend(start.env);
        self.processes.start(Command {
            argv: start.argv,
            env: environment(&self.record, &own),
            cwd: start.cwd.unwrap_or_else(|| self.record.workdir.clone()),
            user: start.user.unwrap_or_else(|| self.record.user.clone()),
            tty: start.tty,
            stdin,
            clients: [stdout, stderr],
            logs: [None, None],
            timeout: start.timeout_ms.map(Duration::from_millis),
            owner,
        })
    }
}

/// One call of one client.
struct Client<'a> {
    desk: &'a Arc<Desk>,
    peer: &'a Peer,
    connection: u64,
    call: u32,
}

impl Client<'_> {
    /// Does what is asked, or has it done. Nothing here waits: the client's next frames are not taken in before this returns.
    fn take(&self, payload: &[u8]) {
        let ask: Ask = match serde_json::from_slice(payload) {
            Ok(ask) => ask,
            Err(error) => return self.fail(&Error::BadRequest { reason: error.to_string() }),
        };
        if let Err(error) = self.answer(ask) {
            self.fail(&error);
        }
    }

    fn answer(&self, ask: Ask) -> Result<(), Error> {
        let processes = &self.desk.processes;
        match ask {
            Ask::Status => {
                self.reply(&Answer::Status(Running {
                    state: self.desk.phase().to_string(),
                    ..self.desk.running.clone()
                }));
            }
            Ask::Exec(start) => {
                let owner = if start.detached { Owner::Workspace } else { Owner::Connection(self.connection) };
                let process = self.desk.start(*start, self.peer, owner)?;
                self.reply(&Answer::Started { process: process.id() });
            }
            Ask::Await { process } => {
                let (peer, call) = (self.peer.clone(), self.call);
                processes
                    .find(&process)?
                    .when_ended(Box::new(move |ending| peer.reply(call, &Answer::Ended(ending.clone()))));
            }
            Ask::Attach { process, stdin, stdout, stderr } => {
                let process = processes.find(&process)?;
                let stdin = stdin.map(|id| self.peer.output(id)).transpose()?;
                process.attach(stdin, [self.peer.input(stdout)?, self.peer.input(stderr)?]);
                self.reply(&Answer::Done);
            }
            Ask::Detach { process } => {
                processes.find(&process)?.detach();
                self.reply(&Answer::Done);
            }
            // The guest of one that stands still takes nothing, and this thread is not to wait for it.
            Ask::Signal { .. } | Ask::Resize { .. } if self.desk.phase() != Phase::Running => {
                self.desk.check_running("reach a process of")?;
            }
            Ask::Signal { process, signal, to } => {
                let process = processes.find(&process)?;
                self.pass_on(processes.signal(&process, signal, to)?);
            }
            Ask::Resize { process, size } => {
                let process = processes.find(&process)?;
                self.pass_on(processes.resize(&process, size)?);
            }
            Ask::Processes => self.reply(&Answer::Processes { processes: processes.list() }),
            Ask::Halt(because) => self.order(Order::Halt(because)),
            Ask::Kill(because) => self.order(Order::Kill(because)),
            Ask::Pause(because) => self.order(Order::Pause(because)),
            Ask::Resume(because) => self.order(Order::Resume(because)),
            Ask::Quarantine(because) => self.order(Order::Quarantine(because)),
            Ask::Snapshot { tag, comment, forensic, because } => {
                let tag = tag.map(Tag::new).transpose()?;
                let kind = if forensic { SnapshotKind::Forensic } else { SnapshotKind::Full };
                let (peer, call) = (self.peer.clone(), self.call);
                let answerer: TakenAnswerer = Box::new(move |outcome| match outcome {
                    Ok(taken) => _ = peer.reply(call, &Answer::Taken(taken)),
                    Err(error) => _ = peer.reply(call, &Answer::Failed(FaultReport::new(&error))),
                });
                self.order(Order::Snapshot(Wanted { tag, comment, kind }, because, answerer));
            }
            Ask::Amend { amendment, because } => self.order(Order::Amend(amendment, because)),
            Ask::HttpGet { page, timeout_ms } => self.get(page, Duration::from_millis(timeout_ms))?,
            of_files => return self.about_files(of_files),
        }
        Ok(())
    }

    /// Asks a server of the guest.
    fn get(&self, page: HttpGet, timeout: Duration) -> Result<(), Error> {
        if !page.is_valid() {
            let reason = format!("no page is called `{}` at port {}", page.path.escape_default(), page.port);
            return Err(Error::BadRequest { reason });
        }
        self.desk.check_running("ask a server in")?;
        let (peer, call, channel) = (self.peer.clone(), self.call, self.desk.channel.clone());
        let deadline = Instant::now() + timeout.min(PAGE_LIMIT);
        std::thread::spawn(move || {
            let answer = match page::status(&channel, &page, deadline) {
                Ok(status) => Answer::Http { status },
                Err(error) => Answer::Failed(FaultReport::new(&error)),
            };
            peer.reply(call, &answer);
        });
        Ok(())
    }

    /// What the guest itself answers.
    fn about_files(&self, ask: Ask) -> Result<(), Error> {
        match ask {
            Ask::Stat { path, follow } => self.question(&Request::Stat { path, follow })?,
            Ask::Sync => self.question(&Request::Sync)?,
            Ask::Stats => self.question(&Request::Stats)?,
            Ask::Pack { path, name, follow, output } => {
                self.send(output, |output| Request::Pack { path, name, follow, output })?;
            }
            Ask::Changes { output } => self.send(output, |output| Request::Changes { output })?,
            Ask::PackLayer { output } => self.send(output, |output| Request::PackLayer { output })?,
            Ask::Unpack { directory, input, owner } => {
                let from = self.peer.output(input)?;
                let channel = self.guest()?;
                let to = channel.input();
                let call = channel.call(&Request::Unpack { directory, input: to.id(), owner })?;
                std::thread::spawn(move || relay::copy(from, to));
                self.wait_for(call, None);
            }
            _ => unreachable!("everything else is answered above"),
        }
        Ok(())
    }

    /// The way to the guest, if it can be asked. The streams of the client's call are open by then: they end with a refusal.
    fn guest(&self) -> Result<&Channel, Error> {
        self.desk.check_running("reach the files of")?;
        Ok(&self.desk.channel)
    }

    /// Asks the guest, and passes its answer on, which comes soon.
    fn question(&self, request: &Request) -> Result<(), Error> {
        self.pass_on(self.guest()?.call(request)?);
        Ok(())
    }

    /// Has the guest send something to the client.
    fn send(&self, client: u32, request: impl FnOnce(u32) -> Request) -> Result<(), Error> {
        let to = self.peer.input(client)?;
        let channel = self.guest()?;
        let from = channel.output();
        let call = channel.call(&request(from.id()))?;
        std::thread::spawn(move || relay::copy(from, to));
        self.wait_for(call, None);
        Ok(())
    }

    /// Passes the guest's answer on, which comes soon.
    fn pass_on(&self, call: Call) {
        self.wait_for(call, Some(Instant::now() + ANSWER_LIMIT));
    }

    fn wait_for(&self, call: Call, deadline: Option<Instant>) {
        let (peer, id, pid) = (self.peer.clone(), self.call, self.desk.running.engine_pid);
        std::thread::spawn(move || {
            let answer = match call.wait(deadline) {
                Ok(Reply::Stat(stat)) => Answer::Stat(stat),
                Ok(Reply::Stats(guest)) => Answer::Stats(Usage { guest, pid }),
                Ok(_) => Answer::Done,
                Err(error) => Answer::Failed(FaultReport::new(&Error::from(error))),
            };
            peer.reply(id, &answer);
        });
    }

    fn order(&self, order: Order) {
        let (peer, call) = (self.peer.clone(), self.call);
        self.desk.order(
            order,
            Box::new(move |outcome| match outcome {
                Ok(()) => _ = peer.reply(call, &Answer::Done),
                Err(error) => _ = peer.reply(call, &Answer::Failed(FaultReport::new(&error))),
            }),
        );
    }

    fn reply(&self, answer: &Answer) {
        self.peer.reply(self.call, answer);
    }

    fn fail(&self, error: &Error) {
        self.reply(&Answer::Failed(FaultReport::new(error)));
    }
}
