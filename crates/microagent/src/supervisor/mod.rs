//! The process that runs a workspace: it holds the lease, the engine and the conversation with the guest, and serves clients.
//!
//! [`serve`] is its life. It takes the lease, brings the machine up, runs set-up steps that are still to be run, starts the workspace's
//! service, and says that it is ready. From then on it waits for what ends the machine or changes its state: an order from a client, the
//! end of the service, the end of its time, the end of the machine itself. Everything else clients want is answered on threads of their
//! own ([`desk`]), with the [`process`]es they start. How the machine comes up is told in [`coming`], how it ends in [`ending`], and how it
//! is paused and written down in [`standstill`].
//!
//! Whatever ends it, what is on record afterwards is true: it records the end before it lets go of the lease, and a record that says a
//! machine runs while nobody holds the lease says that the supervisor died.

mod coming;
mod desk;
mod ending;
mod page;
mod process;
mod relay;
pub(crate) mod socket;
mod standstill;
mod tail;

use crate::boot::session::Session;
use crate::boot::{Parts, Start};
use crate::plan::environment;
use crate::snapshot::Restoring;
use crate::{Client, Error, RunIo, StartOptions};
pub(crate) use coming::set_up;
use coming::{Up, bring_back, bring_up};
use desk::{Answerer, Desk, Order, TakenAnswerer};
use ending::{End, Stopping};
use microagent_machine::log::BoundedLog;
use microagent_protocol::supervisor::{Amendment, Because, Ending, Running};
use microagent_state::snapshot::SnapshotKind;
use microagent_state::{Cause, Name, Phase, Workspace, WorkspaceRecord};
use process::{Command, Owner, Process, Processes};
use serde::{Deserialize, Serialize};
use standstill::{Published, Standstill};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the engine may take to stop or continue its processors.
const PAUSE_LIMIT: Duration = Duration::from_mins(1);

/// A workspace that has been started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartReport {
    /// Name of the workspace.
    pub workspace: Name,
    /// Where it is in its life.
    pub state: Phase,
    /// What the processors run on.
    pub backend: String,
    /// The engine program.
    pub engine: String,
    /// The machine: new for every start.
    pub session: String,
    /// How the machine came up.
    pub start: Start,
    /// Whether it went on from an engine that had the guest's code translated.
    pub rehearsed: bool,
    /// What kept a template from being made or used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_note: Option<String>,
    /// Milliseconds from the start of the supervisor until the guest answered and its service was started.
    pub ready_ms: u64,
}

/// Something that the main thread has to hear of.
enum Happening {
    Ordered(Order, Answerer),
    /// The machine ended by itself.
    MachineGone,
    /// The service ended.
    ServiceEnded(Ending),
    /// The guest has been asked to come to rest, and has or has not.
    AtRest(Result<(), Error>),
    /// A snapshot has been written, or has not.
    Published(Box<Published>, TakenAnswerer),
}

/// Runs a workspace until it ends, and returns the phase it ended in. `ready` is called when it is up.
pub(crate) fn serve(
    client: &Client,
    name: &Name,
    options: &StartOptions,
    ready: impl FnOnce(&StartReport),
) -> Result<Phase, Error> {
    let begun = Instant::now();
    let workspace = client.state().acquire(name)?;
    workspace.settle_disks()?;
    let mut record = workspace.record()?;
    if options.from_snapshot.is_some() && record.disposable {
        // Whoever made it left it so that it goes if this process does not come.
        record.phase = Phase::Prepared;
    }
    workspace.heal(&mut record, Cause::of("supervisor"))?;
    let restoring = options.from_snapshot.as_ref().map(|from| Restoring::open(client, from)).transpose()?;
    if !record.phase.can_start() {
        return Err(Error::WrongState { name: name.to_string(), state: record.phase, doing: "start" });
    }
    let was = record.clone();
    record.session = Some(new_session()?);
    workspace.enter(&mut record, Phase::Starting, client.cause(options.reason.clone()))?;
    let brought = match &restoring {
        Some(restoring) => bring_back(client, &workspace, &mut record, options, restoring),
        None => bring_up(client, &workspace, &record, options, None),
    };
    let mut machine = match (brought, &restoring) {
        (Ok(machine), _) => machine,
        // A copy that did not come to go on is nothing.
        (Err(error), Some(_)) if record.disposable => {
            let _ = workspace.remove();
            return Err(error);
        }
        (Err(error), Some(restoring)) => return Err(as_it_was(&workspace, &was, restoring, error)),
        (Err(error), None) => return Err(failed(&workspace, &mut record, error)),
    };
    // Nobody waits for this workspace's end to have layers removed.
    drop(restoring);
    if !record.setup_complete
        && let Err(error) =
            set_up(client, &mut machine.session, &workspace, &mut record, &options.interrupt, RunIo::default())
    {
        return Err(failed(&workspace, &mut record, error));
    }
    machine.ready_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match Supervisor::start(client, workspace, record, machine, &options.interrupt) {
        Ok(supervisor) => {
            ready(&supervisor.report);
            supervisor.run()
        }
        Err(not) => {
            let NotStarted { workspace, mut record, error } = *not;
            Err(failed(&workspace, &mut record, error))
        }
    }
}

fn new_session() -> Result<String, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| Error::Entropy)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Records that a start failed. The error is the one to tell; that it cannot be recorded is seen by the next who looks.
fn failed(workspace: &Workspace, record: &mut WorkspaceRecord, error: Error) -> Error {
    record.error = Some(error.report());
    let _ = workspace.enter(record, Phase::Failed, Cause::of("supervisor").because("the start failed"));
    error
}

/// Records that a workspace did not go on from a snapshot, and is what it was before.
fn as_it_was(workspace: &Workspace, was: &WorkspaceRecord, restoring: &Restoring, error: Error) -> Error {
    let mut record = WorkspaceRecord { phase: Phase::Starting, ..was.clone() };
    let why = format!("it did not go on from snapshot `{}`: {}", restoring.reference(), error.report().message);
    let _ = workspace.enter(&mut record, was.phase, Cause::of("supervisor").because(why));
    error
}

/// A workspace whose machine came up, and that does not run all the same.
struct NotStarted {
    workspace: Workspace,
    record: WorkspaceRecord,
    error: Error,
}

impl NotStarted {
    fn new(workspace: Workspace, record: WorkspaceRecord, error: Error) -> Box<NotStarted> {
        Box::new(NotStarted { workspace, record, error })
    }
}

/// A workspace that runs.
struct Supervisor {
    client: Client,
    parts: Parts,
    workspace: Workspace,
    record: WorkspaceRecord,
    session: Session,
    standstill: Standstill,
    desk: Arc<Desk>,
    service: Option<Arc<Process>>,
    happenings: Receiver<Happening>,
    told: Sender<Happening>,
    /// When its time is up.
    expiry: Option<Instant>,
    report: StartReport,
    _interrupted: crate::interrupt::Listening,
}

impl Supervisor {
    fn start(
        client: &Client,
        workspace: Workspace,
        mut record: WorkspaceRecord,
        up: Up,
        interrupt: &crate::Interrupt,
    ) -> Result<Supervisor, Box<NotStarted>> {
        let Up { session, parts, processes, start, rehearsed, template_note, ready_ms } = up;
        let report = StartReport {
            workspace: record.name.clone(),
            state: Phase::Running,
            backend: record.backend.clone(),
            engine: record.engine.clone(),
            session: record.session.clone().unwrap_or_default(),
            start,
            rehearsed,
            template_note,
            ready_ms,
        };
        let listener = match socket::listen(&workspace) {
            Ok(listener) => listener,
            Err(source) => return Err(NotStarted::new(workspace, record, Error::Socket { source })),
        };
        let channel = session.machine().channel().clone();
        let (processes, service) = if let Some(going_on) = processes {
            going_on
        } else {
            let processes = Arc::new(Processes::new(channel.clone()));
            match start_service(&workspace, &record, &processes) {
                Ok(service) => (processes, service),
                Err(error) => return Err(NotStarted::new(workspace, record, error)),
            }
        };
        if let Err(error) = workspace.enter(&mut record, Phase::Running, Cause::of("supervisor")) {
            return Err(NotStarted::new(workspace, record, error.into()));
        }
        let (told, happenings) = mpsc::channel();
        let desk = Arc::new(Desk {
            running: Running {
                state: String::new(),
                supervisor_pid: std::process::id(),
                engine_pid: session.machine().pid(),
                start: start.to_string(),
                ready_ms,
                forwards: session.lines().mappings.iter().map(ToString::to_string).collect(),
            },
            record: record.clone(),
            channel: channel.clone(),
            processes,
            phase: Mutex::new(Phase::Running),
            told: told.clone(),
            killer: session.machine().killer(),
            awaits_evidence: false.into(),
            connections: 0.into(),
            open: 0.into(),
        });
        let clients = Arc::clone(&desk);
        std::thread::spawn(move || clients.listen(&listener));
        let gone = told.clone();
        std::thread::spawn(move || {
            channel.closed();
            // Nobody is there to hear it when the end is under way already.
            let _ = gone.send(Happening::MachineGone);
        });
        if let Some(service) = &service {
            let ended = told.clone();
            service.when_ended(Box::new(move |ending| {
                let _ = ended.send(Happening::ServiceEnded(ending.clone()));
                false
            }));
        }
        let asked = Arc::clone(&desk);
        let interrupted = interrupt.listen(move |count| {
            let because = Because { actor: "signal".to_owned(), reason: None, correlation_id: None };
            let order = if count > 1 { Order::Kill(because) } else { Order::Halt(because) };
            asked.order(order, Box::new(|_| ()));
        });
        let expiry = record.ttl_seconds.and_then(|ttl| Instant::now().checked_add(Duration::from_secs(ttl)));
        Ok(Supervisor {
            client: client.clone(),
            parts,
            workspace,
            record,
            session,
            standstill: Standstill::default(),
            desk,
            service,
            happenings,
            told,
            expiry,
            report,
            _interrupted: interrupted,
        })
    }

    /// Waits for the end, and brings it about.
    fn run(mut self) -> Result<Phase, Error> {
        let mut stopping: Option<Stopping> = None;
        loop {
            let end = match self.next() {
                None => self.expire(&mut stopping),
                Some(Happening::Ordered(order, answerer)) => self.obey(order, answerer, &mut stopping),
                Some(Happening::MachineGone) => Some(self.machine_gone(&mut stopping)),
                Some(Happening::ServiceEnded(ending)) => self.service_ended(ending, &mut stopping),
                Some(Happening::AtRest(outcome)) => Some(self.at_rest(outcome, &mut stopping)),
                Some(Happening::Published(published, answerer)) => self.published(*published, answerer, &mut stopping),
            };
            if let Some(end) = end {
                return self.finish(end, stopping);
            }
        }
    }

    /// What happens next; `None` when the workspace's time is up.
    fn next(&self) -> Option<Happening> {
        let Some(expiry) = self.expiry else {
            // A sender is held here, so there is always somebody who could send.
            return self.happenings.recv().ok();
        };
        self.happenings.recv_timeout(expiry.saturating_duration_since(Instant::now())).ok()
    }

    fn expire(&mut self, stopping: &mut Option<Stopping>) -> Option<End> {
        self.expiry = None;
        let ttl = self.record.ttl_seconds.unwrap_or_default();
        let cause = Cause::of("supervisor").because(format!("its time of {ttl} s is up"));
        self.stop(cause, Phase::Halted, stopping);
        None
    }

    fn obey(&mut self, order: Order, answerer: Answerer, stopping: &mut Option<Stopping>) -> Option<End> {
        match order {
            Order::Halt(because) => {
                self.stop(cause(because), Phase::Halted, stopping);
                if let Some(stopping) = stopping {
                    stopping.answerers.push(answerer);
                }
                None
            }
            Order::Kill(because) => Some(end_at_once(Phase::Stopped, because, answerer, stopping)),
            Order::Quarantine(because) => Some(end_at_once(Phase::Quarantined, because, answerer, stopping)),
            Order::Pause(because) => {
                drop(ending::answer(answerer, self.pause(because)));
                None
            }
            Order::Resume(because) => {
                drop(ending::answer(answerer, self.resume(because)));
                None
            }
            Order::Snapshot(wanted, because, answerer) if wanted.kind == SnapshotKind::Forensic => {
                self.snapshot_as_evidence(wanted, because, answerer, stopping)
            }
            Order::Snapshot(wanted, because, answerer) => {
                self.snapshot(wanted, because, answerer);
                None
            }
            Order::Amend(amendment, because) => {
                answerer(self.amend(*amendment, because));
                None
            }
        }
    }

    fn check(&self, wanted: Phase, doing: &'static str) -> Result<(), Error> {
        let state = self.desk.phase();
        if state == wanted {
            return Ok(());
        }
        Err(Error::WrongState { name: self.record.name.to_string(), state, doing })
    }

    /// Changes what concerns neither the machine nor what runs in it.
    fn amend(&mut self, amendment: Amendment, because: Because) -> Result<(), Error> {
        let mut record = self.record.clone();
        crate::apply::amend(&mut record, amendment);
        record.updated_at = jiff::Timestamp::now();
        self.workspace.store(&record)?;
        self.record = record;
        Ok(self.workspace.note(&self.record, "applied", cause(because))?)
    }
}

/// Starts the command that the workspace is for, if it is for one.
fn start_service(
    workspace: &Workspace,
    record: &WorkspaceRecord,
    processes: &Arc<Processes>,
) -> Result<Option<Arc<Process>>, Error> {
    let Some(argv) = &record.service else { return Ok(None) };
    let command = Command {
        argv: argv.clone(),
        env: environment(record, &record.env),
        cwd: record.workdir.clone(),
        user: record.user.clone(),
        tty: None,
        stdin: None,
        clients: [None, None],
        logs: service_logs(workspace, BoundedLog::create)?,
        timeout: None,
        owner: Owner::Workspace,
    };
    processes.start(command).map(Some)
}

/// Where what the service says is kept.
fn service_logs(
    workspace: &Workspace,
    open: impl Fn(&Path) -> std::io::Result<BoundedLog>,
) -> Result<[Option<BoundedLog>; 2], Error> {
    let log = |path: std::path::PathBuf| {
        let opened = open(&path);
        opened.map_err(microagent_state::Error::io("write", &path)).map_err(Error::from)
    };
    Ok([Some(log(workspace.stdout_log())?), Some(log(workspace.stderr_log())?)])
}

/// The end of a machine that is not asked; by now it is dead or dying. One that was taken out of service stays so.
fn end_at_once(phase: Phase, because: Because, answerer: Answerer, stopping: &mut Option<Stopping>) -> End {
    let stopping = stopping.get_or_insert_with(Stopping::default);
    stopping.answerers.push(answerer);
    stopping.quarantine().unwrap_or(End { phase, cause: cause(because), error: None })
}

fn cause(because: Because) -> Cause {
    let Because { actor, reason, correlation_id } = because;
    let actor = if actor.is_empty() { "client".to_owned() } else { actor };
    Cause { actor, reason, correlation_id }
}
