//! Keeping a workspace up.
//!
//! [`Client::supervise`] starts a workspace that does not run, waits for its end, and does what its restart policy says about that: again
//! and again, with a growing pause in between, until the policy or the caller says that it is enough. Meanwhile it probes the workspace's
//! health. It waits for events all the time and asks nothing twice: the end of the workspace, the answer of a probe, and the caller's
//! interrupt arrive on one channel, and only pauses and probes have a clock.

mod policy;
mod probe;

use crate::{Client, Error, StartOptions, WorkspaceEvent};
use microagent_state::{Name, Phase};
use policy::{Ended, Verdict};
use probe::Probes;
use serde::Serialize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// The pause before the first restart. It doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A workspace that ran for this long had come up well, and its next end is the first again.
const WELL_AFTER: Duration = Duration::from_mins(1);

/// Options of [`Client::supervise`].
#[derive(Clone, Debug, Default)]
pub struct SuperviseOptions {
    /// How it is started. Its interrupt halts the workspace and ends the supervision; the second one kills it.
    pub start: StartOptions,
    /// Time between two health probes, instead of what the workspace says.
    pub interval: Option<Duration>,
    /// Most restarts; any number when absent.
    pub max_restarts: Option<u32>,
}

/// What became of a supervision.
#[derive(Clone, Debug, Serialize)]
pub struct Supervised {
    /// Name of the workspace.
    pub workspace: Name,
    /// Where it is in its life.
    pub state: Phase,
    /// How often it was started again.
    pub restarts: u32,
}

/// What a supervision tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SupervisedEvent {
    /// The workspace runs.
    Running,
    /// It ended.
    Ended {
        /// The state it is in since.
        state: Phase,
    },
    /// It did not start.
    NotStarted {
        /// Why.
        error: String,
    },
    /// It did not answer its probes, and is killed.
    Unhealthy {
        /// How many failed in a row.
        failures: u32,
    },
    /// It will be started again.
    Restarting {
        /// How often it has been, with this one.
        restarts: u32,
        /// Milliseconds until then.
        pause_ms: u64,
    },
}

/// What the supervision waits for.
enum Happening {
    /// Nobody runs the workspace any more.
    Ended(Result<Phase, Error>),
    /// A probe is over.
    Probed { number: u64, well: bool },
    /// The caller wants an end, for the n-th time.
    Interrupted(u32),
}

impl Client {
    /// Keeps a workspace up as its restart policy says, and returns when it stays down.
    ///
    /// | it ended | `never` | `on-failure` | `always` |
    /// |---|---|---|---|
    /// | because somebody halted, killed or quarantined it, or its time was up | stays down | stays down | stays down |
    /// | because its service ended with 0, or its guest powered off | stays down | stays down | is started again |
    /// | in any other way: it failed, or was killed for being unwell | stays down | is started again | is started again |
    ///
    /// The interrupt of [`StartOptions`] halts the workspace: whoever stops a service means what it does.
    pub fn supervise(
        &self,
        name: &Name,
        options: &SuperviseOptions,
        tell: impl FnMut(&SupervisedEvent),
    ) -> Result<Supervised, Error> {
        let (told, happenings) = mpsc::channel();
        let asked = told.clone();
        let _interrupted = options.start.interrupt.listen(move |count| {
            let _ = asked.send(Happening::Interrupted(count));
        });
        let supervision =
            Supervision { client: self, name, options, told, happenings, tell, restarts: 0, pause: FIRST_PAUSE };
        supervision.run()
    }
}

struct Supervision<'a, T> {
    client: &'a Client,
    name: &'a Name,
    options: &'a SuperviseOptions,
    told: Sender<Happening>,
    happenings: Receiver<Happening>,
    tell: T,
    restarts: u32,
    pause: Duration,
}

impl<T: FnMut(&SupervisedEvent)> Supervision<'_, T> {
    fn run(mut self) -> Result<Supervised, Error> {
        loop {
            let begun = Instant::now();
            let ended = match self.start() {
                Ok(()) => self.attend(begun)?,
                Err(Error::Interrupted) => match self.client.record(self.name)?.phase {
                    // It came up all the same, or is coming down.
                    state if state.is_live() => self.attend(begun)?,
                    state => return Ok(self.report(state)),
                },
                Err(error) => self.not_started(error)?,
            };
            (self.tell)(&SupervisedEvent::Ended { state: ended.state });
            if begun.elapsed() >= WELL_AFTER {
                self.pause = FIRST_PAUSE;
            }
            let record = self.client.record(self.name)?;
            match policy::judge(&record.restart, &ended) {
                Verdict::StayDown => return Ok(self.report(ended.state)),
                Verdict::Restart if self.options.max_restarts.is_some_and(|most| self.restarts >= most) => {
                    return Err(Error::TooManyRestarts { name: self.name.to_string(), restarts: self.restarts });
                }
                Verdict::Restart => {}
            }
            self.restarts += 1;
            let pause_ms = u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX);
            (self.tell)(&SupervisedEvent::Restarting { restarts: self.restarts, pause_ms });
            if !self.rest()? {
                return Ok(self.report(self.client.record(self.name)?.phase));
            }
            match self.client.record(self.name)?.phase {
                state if state.is_live() || state.can_start() => {}
                // It was taken out of service meanwhile.
                state => return Ok(self.report(state)),
            }
            let reason = format!("its restart policy is `{}`; restart {}", record.restart, self.restarts);
            self.note("restarted", reason)?;
        }
    }

    fn report(&self, state: Phase) -> Supervised {
        Supervised { workspace: self.name.clone(), state, restarts: self.restarts }
    }

    /// Has the workspace run, if it does not.
    fn start(&mut self) -> Result<(), Error> {
        if !self.client.record(self.name)?.phase.is_live() {
            match self.client.start(self.name, &self.options.start) {
                // Somebody was quicker.
                Err(Error::WrongState { state, .. }) if state.is_live() => {}
                started => drop(started?),
            }
        }
        (self.tell)(&SupervisedEvent::Running);
        Ok(())
    }

    /// A start that failed is an end, where it is one of the workspace and not of the attempt.
    fn not_started(&mut self, error: Error) -> Result<Ended, Error> {
        let record = self.client.record(self.name)?;
        if record.phase != Phase::Failed || self.options.start.interrupt.is_stopped() {
            return Err(error);
        }
        (self.tell)(&SupervisedEvent::NotStarted { error: error.report().message });
        if record.restart == "never" {
            Err(error)
        } else {
            Ok(Ended { state: record.phase, by_request: false, unwell: false })
        }
    }

    /// Stays with a workspace that runs until it has ended.
    fn attend(&mut self, begun: Instant) -> Result<Ended, Error> {
        let (client, name, told) = (self.client.clone(), self.name.clone(), self.told.clone());
        std::thread::spawn(move || {
            let _ = told.send(Happening::Ended(client.wait(&name, None).map(|waited| waited.state)));
        });
        let mut probes = Probes::new(self.client, self.name, self.options.interval, begun);
        let mut killed_unwell = false;
        let mut interrupted = false;
        loop {
            match self.next(probes.due()) {
                None => probes.turn(&self.told)?,
                Some(Happening::Probed { number, well }) => probes.heard(number, well),
                Some(Happening::Ended(state)) => {
                    let state = state?;
                    let by_request = interrupted
                        || matches!(state, Phase::Halted | Phase::Quarantined)
                        || (!killed_unwell && self.ended_by_request(state)?);
                    return Ok(Ended { state, by_request, unwell: killed_unwell });
                }
                Some(Happening::Interrupted(count)) => {
                    interrupted = true;
                    self.end(count);
                }
            }
            if let Some(failures) = probes.unwell()
                && !killed_unwell
                && !interrupted
            {
                killed_unwell = true;
                (self.tell)(&SupervisedEvent::Unhealthy { failures });
                let reason = format!("{failures} health probes failed in a row");
                self.note("unhealthy", reason.clone())?;
                match self.client.kill(self.name, reason) {
                    // It ended in between.
                    Err(Error::WrongState { .. } | Error::SupervisorLost { .. }) => {}
                    killed => drop(killed?),
                }
            }
        }
    }

    /// Brings about the end that the caller wants, off this thread, which waits for it.
    fn end(&self, count: u32) {
        let (client, name) = (self.client.clone(), self.name.clone());
        std::thread::spawn(move || {
            let reason = "its supervision was stopped".to_owned();
            // Whether it worked shows in how the workspace ends.
            let _ = if count > 1 { client.kill(&name, reason) } else { client.halt(&name, Some(reason)) };
        });
    }

    /// Whether somebody wanted the workspace to end as it did.
    fn ended_by_request(&self, state: Phase) -> Result<bool, Error> {
        if matches!(state, Phase::Halted | Phase::Quarantined) {
            return Ok(true);
        }
        let events = self.client.events(self.name)?;
        // Since it ran last: what it was asked for counts, and not how it went about that.
        let since = events.iter().rev().take_while(|event| event.event != Phase::Running.to_string());
        let asked = |event: &WorkspaceEvent| {
            let ends = [Phase::Stopping, Phase::Stopped].iter().any(|phase| event.event == phase.to_string());
            ends && !["guest", "supervisor"].contains(&event.cause.actor.as_str())
        };
        Ok(since.into_iter().any(asked))
    }

    /// Waits before a restart. False when the caller wants none.
    fn rest(&mut self) -> Result<bool, Error> {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        loop {
            match self.next(Some(until)) {
                None => return Ok(true),
                Some(Happening::Interrupted(_)) => return Ok(false),
                // From before the end.
                Some(Happening::Probed { .. } | Happening::Ended(_)) => {}
            }
        }
    }

    /// What happens next, at most until `deadline`.
    fn next(&self, deadline: Option<Instant>) -> Option<Happening> {
        let Some(deadline) = deadline else {
            // A sender is held here, so there is always somebody who could send.
            return self.happenings.recv().ok();
        };
        self.happenings.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    fn note(&self, what: &str, reason: String) -> Result<(), Error> {
        let workspace = self.client.state().find(self.name)?;
        Ok(workspace.note(&workspace.status()?, what, self.client.cause(Some(reason)))?)
    }
}
