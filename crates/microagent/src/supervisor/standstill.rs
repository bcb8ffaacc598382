//! A machine that stands still: because its workspace is paused, or while it is written down.
//!
//! First the guest agent is asked to be quiet, so that nothing is on its way between it and its supervisor; then the processors are stopped.
//! Who has something to send to the guest waits meanwhile. A guest that does not answer is paused all the same: its bytes wait in a socket
//! then. It cannot be written down, because whoever goes on from that would meet it in the middle of a word.

use super::desk::{Order, TakenAnswerer};
use super::ending::{End, Stopping, answer, complain};
use super::{Happening, PAUSE_LIMIT, Supervisor, cause, end_at_once};
use crate::Error;
use crate::snapshot::{Captured, Taking, Wanted};
use microagent_machine::channel::{Held, Input};
use microagent_protocol::supervisor::{Because, Taken};
use microagent_state::{Cause, Phase};
use std::io::Write;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the guest may take to be quiet before it is paused, and before it is written down.
const PAUSE_QUIET_LIMIT: Duration = Duration::from_secs(10);
const SNAPSHOT_QUIET_LIMIT: Duration = Duration::from_mins(1);

/// What a secret on its way into the guest has passed through is written over by what is sent after it. The guest's driver has a page for
/// each of the 1024 places in the queue of the port, and uses them in turn.
const FILLER: usize = 6 << 20;
const FILLER_PIECE: usize = 128 << 10;

/// What there is to know of a machine that stands still, or is about to.
#[derive(Default)]
pub(super) struct Standstill {
    /// The quiet guest of a paused workspace.
    held: Option<Held>,
    /// Secrets were removed from the guest.
    is_purged: bool,
    /// Snapshots that are being written.
    publishing: Vec<JoinHandle<()>>,
}

/// What became of a snapshot.
pub(super) struct Published {
    outcome: Result<Taken, Error>,
    because: Because,
    is_evidence: bool,
}

impl Standstill {
    /// Whether the guest has been asked to be quiet, and not to go on.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Has everybody who waits for the guest go on, whatever the guest does.
    pub(super) fn release(&mut self) {
        self.held = None;
    }

    /// Leaves the guest as it is: its machine ends.
    pub(super) fn let_die(&mut self) {
        if let Some(held) = self.held.take() {
            held.let_die();
        }
    }
}

impl Supervisor {
    /// Stops the processors until somebody has them go on.
    pub(super) fn pause(&mut self, because: Because) -> Result<(), Error> {
        self.check(Phase::Running, "pause")?;
        self.desk.set_phase(Phase::Paused);
        let channel = self.session.machine().channel().clone();
        // One that does not answer stands still all the same.
        let held = channel.hold(false, Instant::now() + PAUSE_QUIET_LIMIT).ok();
        if let Err(error) = self.session.machine_mut().pause(Instant::now() + PAUSE_LIMIT) {
            self.desk.set_phase(Phase::Running);
            return Err(error.into());
        }
        self.standstill.held = held;
        let entered = self.workspace.enter(&mut self.record, Phase::Paused, cause(because));
        if entered.is_err() {
            // It is not on record that it stands still, so it does not.
            self.record.phase = Phase::Running;
            let _ = self.workspace.store(&self.record);
            self.desk.set_phase(Phase::Running);
            // What keeps the guest from answering is told to the next who asks it something.
            let _ = self.go_on();
        }
        Ok(entered?)
    }

    pub(super) fn resume(&mut self, because: Because) -> Result<(), Error> {
        self.check(Phase::Paused, "resume")?;
        self.go_on()?;
        self.give_back();
        self.desk.set_phase(Phase::Running);
        Ok(self.workspace.enter(&mut self.record, Phase::Running, cause(because))?)
    }

    /// Has the processors go on, and the guest, with its clock set. Its secrets come back after that.
    pub(super) fn go_on(&mut self) -> Result<(), Error> {
        self.session.machine_mut().resume(Instant::now() + PAUSE_LIMIT)?;
        let channel = self.session.machine().channel().clone();
        let limit = Instant::now() + PAUSE_LIMIT;
        let held = match self.standstill.held.take() {
            Some(held) => Some(held),
            // One that was not quiet when it was stopped has a clock that is late all the same.
            None => channel.hold(false, Instant::now() + PAUSE_QUIET_LIMIT).ok(),
        };
        if let Some(held) = held {
            let epoch_ns = held.epoch_ns(limit)?;
            held.proceed(epoch_ns, limit)?;
        }
        Ok(())
    }

    /// Gives the guest its secrets again, if they were removed, on a thread that takes as long as the guest makes it.
    fn give_back(&mut self) -> Option<JoinHandle<()>> {
        if !std::mem::take(&mut self.standstill.is_purged) {
            return None;
        }
        let entrusting = self.session.entrusting(&self.record);
        Some(std::thread::spawn(move || {
            if let Err(error) = entrusting() {
                complain(&format!("the secrets of the workspace were not given back: {}", error.report().message));
            }
        }))
    }

    /// Writes the machine down. Whoever asked is answered when it is a snapshot; the machine goes on before that.
    pub(super) fn snapshot(&mut self, wanted: Wanted, because: Because, answerer: TakenAnswerer) {
        let was = self.desk.phase();
        let taken = self.take(was, wanted);
        let given_back = if self.desk.phase() == Phase::Running { self.give_back() } else { None };
        match taken {
            Ok((captured, pause)) => self.publish(captured, pause, given_back, because, answerer),
            Err(error) => answerer(Err(error)),
        }
    }

    fn publish(
        &mut self,
        captured: Captured,
        pause: Duration,
        given_back: Option<JoinHandle<()>>,
        because: Because,
        answerer: TakenAnswerer,
    ) {
        let told = self.told.clone();
        let is_evidence = captured.is_evidence();
        let publishing = std::thread::spawn(move || {
            let outcome = captured.publish(pause).map(|(snapshot, note)| Taken {
                tag: snapshot.manifest().tag.to_string(),
                pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
                note,
            });
            if let Some(given_back) = given_back {
                let _ = given_back.join();
            }
            let _ = told.send(Happening::Published(Box::new(Published { outcome, because, is_evidence }), answerer));
        });
        self.standstill.publishing.retain(|publishing| !publishing.is_finished());
        self.standstill.publishing.push(publishing);
    }

    /// Fails unless the machine is there, and not on its way down.
    fn check_writable_down(&self) -> Result<(), Error> {
        match self.desk.phase() {
            Phase::Running | Phase::Paused => Ok(()),
            state => {
                let name = self.record.name.to_string();
                Err(Error::WrongState { name, state, doing: "take a snapshot of" })
            }
        }
    }

    fn take(&mut self, was: Phase, wanted: Wanted) -> Result<(Captured, Duration), Error> {
        self.check_writable_down()?;
        let taking = Taking::prepare(&self.client, &self.parts, &self.workspace, &self.record, &self.session, wanted)?;
        let quiet = self.fall_quiet(was);
        // Whatever comes of it, a workspace that runs goes on, and one that is paused stands still.
        let begun = Instant::now();
        let stopped = self.session.machine_mut().pause(Instant::now() + PAUSE_LIMIT).map_err(Error::from);
        let captured = quiet.and(stopped).and_then(|()| {
            let processes = self.desk.processes.parts(self.service.as_deref());
            taking.capture(&self.parts, &mut self.session, processes, true, Instant::now() + PAUSE_LIMIT)
        });
        if was == Phase::Running {
            self.go_on()?;
        }
        Ok((captured?, begun.elapsed()))
    }

    /// Asks the guest to be quiet, without its secrets if it has any. One that is paused does something for that, unless it is so already.
    fn fall_quiet(&mut self, was: Phase) -> Result<(), Error> {
        let purges = self.session.outfit().has_secret_files() && !self.standstill.is_purged;
        let fills = self.session.outfit().has_secrets();
        if was == Phase::Paused {
            if self.standstill.is_held() && !fills {
                return Ok(());
            }
            self.go_on()?;
        }
        let channel = self.session.machine().channel().clone();
        if fills {
            let zeros = vec![0; FILLER_PIECE];
            for _ in 0..FILLER / FILLER_PIECE {
                // Nobody in the guest knows the stream, so it is dropped there.
                let mut filler: Input = channel.input();
                filler.write_all(&zeros).map_err(|_| microagent_machine::Error::GuestLost)?;
            }
        }
        // Before it is asked: one that fails half way, or answers late, has removed some of them.
        self.standstill.is_purged |= purges;
        self.standstill.held = Some(channel.hold(purges, Instant::now() + SNAPSHOT_QUIET_LIMIT)?);
        Ok(())
    }

    /// Writes the machine down as it is, and takes the workspace out of service, whatever comes of that and whatever is asked meanwhile. Whoever
    /// asked is answered then.
    pub(super) fn snapshot_as_evidence(
        &mut self,
        wanted: Wanted,
        because: Because,
        answerer: TakenAnswerer,
        stopping: &mut Option<Stopping>,
    ) -> Option<End> {
        if let Err(error) = self.check_writable_down() {
            self.desk.awaits_evidence.store(false, Ordering::SeqCst);
            answerer(Err(error));
            return None;
        }
        // Nobody has it go on from here.
        self.desk.set_phase(Phase::Stopping);
        let goal = End { phase: Phase::Quarantined, cause: cause(because.clone()), error: None };
        let taken = self.take_evidence(wanted);
        self.desk.awaits_evidence.store(false, Ordering::SeqCst);
        let note = Cause::of("supervisor").because("it is evidence");
        self.note_failure(|supervisor| supervisor.workspace.enter(&mut supervisor.record, Phase::Stopping, note));
        match taken {
            Ok((captured, pause)) => {
                *stopping = Some(Stopping::to(goal));
                self.publish(captured, pause, None, because, answerer);
                None
            }
            Err(error) => {
                let stopping = stopping.get_or_insert_with(Stopping::default);
                stopping.answerers.push(Box::new(move |_| answerer(Err(error))));
                Some(goal)
            }
        }
    }

    fn take_evidence(&mut self, wanted: Wanted) -> Result<(Captured, Duration), Error> {
        let taking = Taking::prepare(&self.client, &self.parts, &self.workspace, &self.record, &self.session, wanted);
        let begun = Instant::now();
        self.session.machine_mut().pause(Instant::now() + PAUSE_LIMIT)?;
        let processes = self.desk.processes.parts(self.service.as_deref());
        let purged = !self.session.outfit().has_secrets();
        let captured =
            taking?.capture(&self.parts, &mut self.session, processes, purged, Instant::now() + PAUSE_LIMIT)?;
        Ok((captured, begun.elapsed()))
    }

    /// Writes down that a snapshot is there, and tells whoever asked for it; where it was evidence, when the workspace is out of service.
    pub(super) fn published(
        &mut self,
        published: Published,
        answerer: TakenAnswerer,
        stopping: &mut Option<Stopping>,
    ) -> Option<End> {
        let Published { outcome, because, is_evidence } = published;
        if let Ok(taken) = &outcome {
            let what = format!("snapshot `{}`", taken.tag);
            let what = because.reason.map_or(what.clone(), |reason| format!("{what}: {reason}"));
            let because = Because { reason: Some(what), ..because };
            self.note_failure(|supervisor| supervisor.workspace.note(&supervisor.record, "snapshot", cause(because)));
        }
        match stopping {
            Some(stopping) if is_evidence => {
                stopping.answerers.push(Box::new(move |_| answerer(outcome)));
                stopping.quarantine()
            }
            _ => {
                answerer(outcome);
                None
            }
        }
    }

    fn is_ending(&self, doing: &'static str) -> Error {
        Error::WrongState { name: self.record.name.to_string(), state: Phase::Stopping, doing }
    }

    /// Waits for snapshots that are being written, and hears what was asked of the machine meanwhile. Returns what `end` has become by that.
    pub(super) fn finish_snapshots(&mut self, mut end: End, stopping: &mut Option<Stopping>) -> End {
        for publishing in std::mem::take(&mut self.standstill.publishing) {
            let _ = publishing.join();
        }
        while let Ok(happening) = self.happenings.try_recv() {
            let (order, answerer) = match happening {
                Happening::Published(published, answerer) => {
                    self.published(*published, answerer, stopping);
                    continue;
                }
                Happening::Ordered(order, answerer) => (order, answerer),
                _ => continue,
            };
            match order {
                Order::Quarantine(because) if end.phase != Phase::Quarantined => {
                    end = end_at_once(Phase::Quarantined, because, answerer, stopping);
                }
                Order::Halt(_) | Order::Kill(_) | Order::Quarantine(_) => {
                    stopping.get_or_insert_with(Stopping::default).answerers.push(answerer);
                }
                Order::Snapshot(_, _, answerer) => answerer(Err(self.is_ending("take a snapshot of"))),
                Order::Pause(_) => drop(answer(answerer, Err(self.is_ending("pause")))),
                Order::Resume(_) => drop(answer(answerer, Err(self.is_ending("resume")))),
                Order::Amend(..) => drop(answer(answerer, Err(self.is_ending("change")))),
            }
        }
        end
    }
}
