//! How a machine comes up: restored from a template, or booted.
//!
//! Templates are a matter of speed alone. Whatever goes wrong with one before the guest has answered its boot request, when nothing of the
//! run has happened in it, the run goes on with a machine that is booted; and says so.

pub(crate) mod parts;
pub(crate) mod session;
pub(crate) mod timing;

pub(crate) use parts::Parts;
pub(crate) use timing::Stopwatch;
pub use timing::{Start, Timing};

use crate::attach::{self, Attached};
use crate::network::{Outfit, Purpose};
use crate::options::Templates;
use crate::progress::Event;
use crate::snapshot::{RestoredDisks, Restoring};
use crate::{Client, Error, Interrupt};
use microagent_machine::engine::{Machine, MachineSpec};
use microagent_machine::template::{Claim, Found, Making, Shape, Template};
use microagent_machine::{Channel, Error as Cause};
use microagent_protocol::Adopt;
use microagent_state::{Workspace, WorkspaceRecord};
use session::Session;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a guest may take from power-on to its first word. A second on an idle host, a hundred times that when every host processor
/// is busy with something else or the host is itself emulated.
const BOOT_LIMIT: Duration = Duration::from_mins(3);

/// How long a restored guest may take until it has its disks. A quarter of a second in emulation on an idle host.
const RESTORE_LIMIT: Duration = Duration::from_mins(1);

/// The caller's deadline, and the time it was made of.
pub(crate) type Limit = Option<(Instant, Duration)>;

/// Brings up the machine of a workspace.
pub(crate) struct BringUp<'a> {
    pub(crate) client: &'a Client,
    pub(crate) parts: Parts,
    pub(crate) templates: Templates,
    pub(crate) interrupt: Interrupt,
    pub(crate) watch: Stopwatch,
    purpose: Purpose,
    arrival: Arrival,
    /// A template of this machine that is being written down.
    publishing: Option<JoinHandle<Result<(), microagent_machine::Error>>>,
}

/// How a machine came up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) start: Start,
    /// Whether the machine went on from an engine that had rehearsed.
    pub(crate) rehearsed: bool,
    /// Whether there can be such an engine.
    pub(crate) can_rehearse: bool,
    /// What kept a template from being made or used, or made it less than it could be.
    pub(crate) template_note: Option<String>,
}

/// A machine that is to come up.
struct Coming<'a> {
    workspace: &'a Workspace,
    record: &'a WorkspaceRecord,
    spec: MachineSpec,
    attached: Arc<Attached>,
    outfit: Arc<Outfit>,
    limit: Limit,
}

impl Coming<'_> {
    fn session(&self, machine: Machine) -> Session {
        Session::new(machine, self.workspace, Arc::clone(&self.attached), Arc::clone(&self.outfit))
    }

    /// The caller's deadline, or `ours` from now.
    fn within(&self, ours: Duration) -> Instant {
        let ours = Instant::now() + ours;
        self.limit.map_or(ours, |(deadline, _)| deadline.min(ours))
    }

    fn is_late(&self) -> bool {
        self.limit.is_some_and(|(deadline, _)| Instant::now() >= deadline)
    }
}

impl<'a> BringUp<'a> {
    pub(crate) fn new(
        client: &'a Client,
        parts: Parts,
        templates: Templates,
        interrupt: Interrupt,
        watch: Stopwatch,
        purpose: Purpose,
    ) -> BringUp<'a> {
        let can_rehearse = parts.engine.capabilities().rehearse;
        let arrival = Arrival { can_rehearse, ..Arrival::default() };
        BringUp { client, parts, templates, interrupt, watch, purpose, arrival, publishing: None }
    }

    /// How the machine came up, when it has.
    pub(crate) fn arrival(&self) -> Arrival {
        self.arrival.clone()
    }

    /// A machine that is this workspace's, on `disks` where they are to take the place of its own.
    pub(crate) fn bring_up(
        &mut self,
        workspace: &Workspace,
        record: &WorkspaceRecord,
        disks: Option<&RestoredDisks>,
        limit: Limit,
    ) -> Result<Session, Error> {
        let attached = Arc::new(attach::attach(self.client, record)?);
        let outfit = Arc::new(Outfit::prepare(workspace, record, self.purpose, None)?);
        let mut spec = session::spec(&self.parts, workspace, record, &attached);
        if let Some(disks) = disks {
            disks.redirect(&mut spec);
        }
        let coming = Coming { workspace, record, spec, attached, outfit, limit };
        let mut session = self.bring_up_machine(&coming)?;
        match session.equip(record) {
            Ok(()) => Ok(session),
            Err(_) if self.interrupt.is_stopped() => Err(Error::Interrupted),
            Err(error) => Err(session.explain(error, limit, record)),
        }
    }

    /// A machine that goes on from a snapshot as this workspace's. `adopt` says, of each that is tried, which commands go on in it.
    pub(crate) fn bring_back(
        &mut self,
        workspace: &Workspace,
        record: &WorkspaceRecord,
        restoring: &Restoring,
        disks: Option<&RestoredDisks>,
        mut adopt: impl FnMut(&Channel) -> Vec<Adopt>,
    ) -> Result<Session, Error> {
        let attached = Arc::new(attach::attach(self.client, record)?);
        let outfit = Arc::new(Outfit::prepare(workspace, record, self.purpose, Some(&restoring.before()))?);
        let mut spec = session::spec(&self.parts, workspace, record, &attached);
        // A kernel that wipes what is freed goes on doing so, whatever secrets there are now.
        spec.wipes = !restoring.manifest().record.secrets.is_empty();
        if let Some(disks) = disks {
            disks.redirect(&mut spec);
        }
        let coming = Coming { workspace, record, spec, attached, outfit, limit: None };
        loop {
            let template = restoring.template(&self.parts, &coming.spec)?;
            self.arrival.start = Start::Snapshot;
            self.arrival.rehearsed = template.is_rehearsed();
            let machine = self.parts.engine.restore(&coming.spec, &template.restore());
            let up = machine.map_err(Error::from).and_then(|machine| {
                let mut session = coming.session(machine);
                let _killed = self.interrupt.kills(session.machine());
                session.await_waking(coming.within(RESTORE_LIMIT))?;
                Ok(session)
            });
            let mut session = match up {
                Ok(session) => session,
                Err(_) if self.interrupt.is_stopped() => return Err(Error::Interrupted),
                // Its engine was to go on, and did not. Nothing has happened in the guest: the state is loaded into another.
                Err(error) if template.is_rehearsed() => {
                    self.note(format!("the engine of the snapshot was discarded: {}", chain(&error)));
                    restoring.discard(&template);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let _killed = self.interrupt.kills(session.machine());
            let adopted = adopt(session.machine().channel());
            let woken = session.wake(record, adopted, coming.within(RESTORE_LIMIT));
            return match woken.and_then(|()| session.equip(record)) {
                Ok(()) => Ok(session),
                Err(_) if self.interrupt.is_stopped() => Err(Error::Interrupted),
                Err(error) => Err(session.explain(error, None, record)),
            };
        }
    }

    fn bring_up_machine(&mut self, coming: &Coming<'_>) -> Result<Session, Error> {
        if self.templates == Templates::On
            && self.parts.engine.capabilities().warm
            && let Some(session) = self.warm(coming)?
        {
            return Ok(session);
        }
        self.arrival.start = Start::Cold;
        self.arrival.rehearsed = false;
        let machine = self.parts.engine.launch(&coming.spec)?;
        let mut session = coming.session(machine);
        let _killed = self.interrupt.kills(session.machine());
        match session.boot(coming.record, &mut self.watch, coming.within(BOOT_LIMIT)) {
            Ok(()) => Ok(session),
            Err(_) if self.interrupt.is_stopped() => Err(Error::Interrupted),
            Err(error) => Err(session.explain(error, coming.limit, coming.record)),
        }
    }

    /// A machine restored from a template, which is made if there is none; `None` if that cannot be.
    fn warm(&mut self, coming: &Coming<'_>) -> Result<Option<Session>, Error> {
        let hardware = self.parts.engine.hardware(&coming.spec);
        let shape = Shape::new(&self.parts.kernel, &self.parts.initramfs, hardware);
        let store = self.client.template_store();
        match store.find(&shape) {
            Found::Template(template) => return self.restore(coming, &template),
            Found::Distrusted(why) => self.note(format!("the template was discarded: {why}")),
            Found::Unusable(why) => {
                self.note(format!("the template was not used: {why}"));
                return Ok(None);
            }
            Found::Absent => {}
        }
        match store.claim(&shape) {
            Ok(Claim::Making(making)) => self.make(coming, *making),
            Ok(Claim::Made(template)) => self.restore(coming, &template),
            Ok(Claim::Busy) => {
                self.note("another run is making the template".to_owned());
                Ok(None)
            }
            Err(error) => {
                self.note(format!("no template was made: {error}"));
                Ok(None)
            }
        }
    }

    fn restore(&mut self, coming: &Coming<'_>, template: &Template) -> Result<Option<Session>, Error> {
        self.arrival.start = Start::Warm;
        self.arrival.rehearsed = template.is_rehearsed();
        self.arrival.can_rehearse &= !template.rehearsal_failed();
        let machine = match self.parts.engine.restore(&coming.spec, &template.restore()) {
            Ok(machine) => machine,
            // Nothing of the template has been touched.
            Err(error) => {
                return self.give_up(coming, error.into(), "the template was not used").map(|()| None);
            }
        };
        match self.assemble(coming, machine) {
            Ok(session) => Ok(Some(session)),
            Err(error) => {
                self.give_up(coming, error, "the template was discarded")?;
                // One that cannot be removed now is found by the next run, which fares as this one did.
                let _ = self.client.template_store().discard(template);
                Ok(None)
            }
        }
    }

    /// Boots a machine, freezes it, and restores this run's from it. That one gets ready while the other boots. The template is written
    /// down when it has been seen to work.
    fn make(&mut self, coming: &Coming<'_>, making: Making) -> Result<Option<Session>, Error> {
        self.arrival.start = Start::MadeTemplate;
        if let Some(note) = making.note() {
            self.note(note.to_owned());
        }
        let made = self.freeze(coming, &making).and_then(|(machine, done)| Ok((self.assemble(coming, machine)?, done)));
        match made {
            Ok((session, mut done)) => {
                let frozen = session.machine().frozen();
                self.publishing = Some(std::thread::spawn(move || {
                    done.kill()?;
                    Ok(frozen.map_or(Ok(()), |frozen| making.publish(frozen))?)
                }));
                Ok(Some(session))
            }
            Err(error) => self.give_up(coming, error, "no template was made").map(|()| None),
        }
    }

    /// Freezes a machine, and returns another that is being restored from it, and the first, which has been stopped.
    fn freeze(&mut self, coming: &Coming<'_>, making: &Making) -> Result<(Machine, Machine), Error> {
        let engine = &self.parts.engine;
        let limit = coming.within(BOOT_LIMIT);
        let (serial_log, engine_log) = (making.scratch("serial.log"), making.scratch("engine.log"));
        let spec = MachineSpec { serial_log, engine_log, ..coming.spec.clone() };
        let mut first = engine.launch_template(&spec, making.memory())?;
        let _killed = self.interrupt.kills(&first);
        let mut restored = engine.restore(&coming.spec, &making.restore())?;
        let hello = first.engine_up(limit).and_then(|()| {
            self.watch.lap(|timing| &mut timing.engine_ms);
            first.freeze(making.state(), limit)
        });
        let hello = hello.map_err(|error| first.explain(error))?;
        restored.load(&hello).map_err(|error| restored.explain(error))?;
        self.watch.lap(|timing| &mut timing.guest_ms);
        // It takes memory and nothing else from now on, so nobody waits for its end.
        first.killer().kill();
        Ok((restored, first))
    }

    fn assemble(&mut self, coming: &Coming<'_>, machine: Machine) -> Result<Session, Error> {
        let mut session = coming.session(machine);
        let _killed = self.interrupt.kills(session.machine());
        match session.boot(coming.record, &mut self.watch, coming.within(RESTORE_LIMIT)) {
            Ok(()) => Ok(session),
            Err(Error::Machine(error)) => Err(session.machine_mut().explain(error).into()),
            Err(error) => Err(error),
        }
    }

    /// Books a failure to the template, unless it is the caller who ended it.
    fn give_up(&mut self, coming: &Coming<'_>, error: Error, what: &str) -> Result<(), Error> {
        if self.interrupt.is_stopped() {
            return Err(Error::Interrupted);
        }
        if coming.is_late() && matches!(error, Error::Machine(Cause::DeadlinePassed)) {
            return Err(session::timed_out(coming.limit, coming.record).unwrap_or(error));
        }
        self.note(format!("{what}: {}", chain(&error)));
        Ok(())
    }

    fn note(&mut self, note: String) {
        self.client.progress().event(Event::Template { note: &note });
        self.arrival.template_note = Some(match self.arrival.template_note.take() {
            Some(before) => format!("{before}; {note}"),
            None => note,
        });
    }

    /// Waits until a template of this run is written down.
    pub(crate) fn finish_template(&mut self) {
        let Some(publishing) = self.publishing.take() else { return };
        let failure = match publishing.join() {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its writer failed".to_owned(),
        };
        self.arrival.start = Start::Cold;
        self.note(format!("the template was not kept: {failure}"));
    }
}

/// An error and what is behind it, on one line.
fn chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut said: Vec<String> = causes.map(ToString::to_string).collect();
    // One that passes another on says what that says.
    said.dedup();
    said.join(": ")
}
