//! How a workspace that runs comes to its end.

use super::desk::Answerer;
use super::process::SIGTERM;
use super::{Happening, Supervisor};
use crate::Error;
use crate::commands::streams::Captured;
use crate::run::result;
use crate::signal::number;
use microagent_machine::channel::Channel;
use microagent_protocol::supervisor::Ending;
use microagent_protocol::{FaultKind, FaultReport, Recipients, Request};
use microagent_state::{Cause, Phase, Record};
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a service that was asked to end has to do so.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long the guest may take to end what still runs, flush and unmount.
const SHUTDOWN_LIMIT: Duration = Duration::from_mins(2);

/// How long those who asked for the end may take to hear of it.
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// The end, as it is to be recorded.
pub(super) struct End {
    pub(super) phase: Phase,
    pub(super) cause: Cause,
    pub(super) error: Option<FaultReport>,
}

/// An end that is under way.
#[derive(Default)]
pub(super) struct Stopping {
    /// Who is to be told when it is there.
    pub(super) answerers: Vec<Answerer>,
    /// What it is to be when the guest has come to rest.
    goal: Option<End>,
}

impl Stopping {
    /// The quarantine that is the goal, if it is.
    pub(super) fn quarantine(&mut self) -> Option<End> {
        self.goal.take_if(|goal| goal.phase == Phase::Quarantined)
    }

    /// An end that comes whatever is asked from now on.
    pub(super) fn to(goal: End) -> Stopping {
        Stopping { answerers: Vec::new(), goal: Some(goal) }
    }
}

impl Supervisor {
    /// Begins to end the machine cleanly, unless that is under way.
    pub(super) fn stop(&mut self, cause: Cause, phase: Phase, stopping: &mut Option<Stopping>) {
        self.come_to_rest(End { phase, cause, error: None }, stopping);
    }

    fn come_to_rest(&mut self, goal: End, stopping: &mut Option<Stopping>) {
        if stopping.is_some() {
            return;
        }
        if self.desk.phase() == Phase::Paused || self.standstill.is_held() {
            // One whose processors cannot go on does not answer either, which is what is told then.
            let _ = self.go_on();
            self.standstill.release();
        }
        self.desk.set_phase(Phase::Stopping);
        self.note_failure(|supervisor| {
            supervisor.workspace.enter(&mut supervisor.record, Phase::Stopping, goal.cause.clone())
        });
        *stopping = Some(Stopping::to(goal));
        let channel = self.session.machine().channel().clone();
        let (told, signal) = (self.told.clone(), number(&self.record.stop_signal).unwrap_or(SIGTERM));
        let (service, processes) = (self.service.clone(), std::sync::Arc::clone(&self.desk.processes));
        std::thread::spawn(move || {
            if let Some(service) = service {
                let (ended, end) = mpsc::channel();
                service.when_ended(Box::new(move |_| {
                    let _ = ended.send(());
                    false
                }));
                // One that cannot be asked has ended, or is ended with the guest.
                let _ = processes.signal(&service, signal, Recipients::Group);
                let _ = end.recv_timeout(STOP_GRACE);
            }
            let _ = told.send(Happening::AtRest(shut_down(&channel)));
        });
    }

    /// The guest has come to rest, or failed to.
    pub(super) fn at_rest(&mut self, outcome: Result<(), Error>, stopping: &mut Option<Stopping>) -> End {
        let goal = stopping.as_mut().and_then(|stopping| stopping.goal.take());
        match (outcome, goal) {
            (Ok(()), Some(goal)) => goal,
            (Ok(()), None) => End { phase: Phase::Halted, cause: Cause::of("supervisor"), error: None },
            (Err(error), _) => {
                let error = self.session.explain(error, None, &self.record);
                let cause = Cause::of("supervisor").because("the guest did not come to rest");
                End { phase: Phase::Failed, cause, error: Some(error.report()) }
            }
        }
    }

    /// The service has ended, and with it the workspace.
    pub(super) fn service_ended(&mut self, ending: Ending, stopping: &mut Option<Stopping>) -> Option<End> {
        self.note_failure(|supervisor| supervisor.keep_result(&ending));
        let goal = match (&ending.exit, ending.refused) {
            (Some(exit), _) if exit.status() == 0 => {
                let cause = Cause::of("guest").because("its service ended");
                End { phase: Phase::Stopped, cause, error: None }
            }
            (Some(exit), _) => {
                let error = Error::ServiceFailed { name: self.record.name.to_string(), exit_code: exit.status() };
                let cause = Cause::of("guest").because("its service failed");
                End { phase: Phase::Failed, cause, error: Some(error.report()) }
            }
            // The machine ended under it, and that is told as well.
            (None, Some(refused)) if refused.code == "guest_lost" => return None,
            (None, refused) => {
                let cause = Cause::of("guest").because("its service could not be started");
                End { phase: Phase::Failed, cause, error: refused.or_else(|| Some(unanswered())) }
            }
        };
        self.come_to_rest(goal, stopping);
        None
    }

    /// Writes down how the service ended, and what it said last.
    fn keep_result(&self, ending: &Ending) -> Result<(), microagent_state::Error> {
        let (Some(exit), Some(service)) = (&ending.exit, &self.service) else { return Ok(()) };
        let [stdout, stderr] = service.last_words().map(|(bytes, truncated)| Captured::of_end(&bytes, truncated));
        result(exit, (stdout, stderr)).store(self.workspace.path())
    }

    /// The machine has ended by itself; or was asked to, and powered off before the guest had said that it is at rest.
    pub(super) fn machine_gone(&mut self, stopping: &mut Option<Stopping>) -> End {
        let error = self.session.explain(microagent_machine::Error::GuestLost.into(), None, &self.record);
        if let Some(quarantine) = stopping.as_mut().and_then(Stopping::quarantine) {
            return quarantine;
        }
        if error.is_power_off() {
            if let Some(goal) = stopping.as_mut().and_then(|stopping| stopping.goal.take()) {
                return goal;
            }
            let cause = Cause::of("guest").because("the guest powered off");
            return End { phase: Phase::Stopped, cause, error: None };
        }
        let cause = Cause::of("supervisor").because("the machine ended");
        End { phase: Phase::Failed, cause, error: Some(error.report()) }
    }

    /// Ends the machine if it has not ended, records what became of the workspace, lets go of it, and tells whoever waits.
    pub(super) fn finish(mut self, end: End, mut stopping: Option<Stopping>) -> Result<Phase, Error> {
        self.desk.set_phase(end.phase);
        self.standstill.let_die();
        self.session.kill();
        let end = self.finish_snapshots(end, &mut stopping);
        let mut failure = end.error.filter(|_| end.phase == Phase::Failed);
        self.record.error.clone_from(&failure);
        let recorded = self.workspace.enter(&mut self.record, end.phase, end.cause);
        if let Err(error) = &recorded
            && self.workspace.record().map_or(true, |record| record.phase != end.phase)
        {
            failure = Some(FaultReport::new(error));
        }
        // A socket that stays in place leads nowhere.
        let _ = std::fs::remove_file(self.workspace.socket());
        let name = self.record.name.to_string();
        drop(self.workspace);
        let outcome = || match &failure {
            Some(reason) => Err(Error::EndedBadly { name: name.clone(), reason: Box::new(reason.clone()) }),
            None => Ok(()),
        };
        let answerers = stopping.into_iter().flat_map(|stopping| stopping.answerers);
        let told: Vec<_> = answerers.map(|answerer| answer(answerer, outcome())).collect();
        let until = Instant::now() + TELL_LIMIT;
        for told in told {
            // One that takes nothing in sees the connection end.
            let _ = told.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
        recorded?;
        Ok(end.phase)
    }

    /// Does something that the workspace can go on without: a disk that is full now may not be later.
    pub(super) fn note_failure(&mut self, act: impl FnOnce(&mut Supervisor) -> Result<(), microagent_state::Error>) {
        if let Err(error) = act(self) {
            complain(&FaultReport::new(&error).message);
        }
    }
}

/// Says so in the supervisor's own log, which may be on a disk that is full.
pub(super) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Answers on a thread of its own, because who asked may take nothing in. Something is received, or the sender is gone, when it is done.
pub(super) fn answer(answerer: Answerer, outcome: Result<(), Error>) -> mpsc::Receiver<()> {
    let (done, told) = mpsc::channel();
    std::thread::spawn(move || {
        answerer(outcome);
        let _ = done.send(());
    });
    told
}

fn shut_down(channel: &Channel) -> Result<(), Error> {
    channel.call(&Request::Shutdown)?.wait(Some(Instant::now() + SHUTDOWN_LIMIT))?;
    Ok(())
}

fn unanswered() -> FaultReport {
    FaultReport {
        code: "guest_unresponsive".to_owned(),
        kind: FaultKind::Permanent,
        message: "the guest did not say what became of the service".to_owned(),
        remediation: None,
        retryable: false,
    }
}
