//! Health probes: a command in the workspace, or a page of a server in it, every so often.

use super::Happening;
use crate::{Client, Connection, Error, ExecOptions, RunIo};
use microagent_protocol::supervisor::{Answer, Ask};
use microagent_state::{Health, HttpGet, Name, Phase};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How long beyond its own limit a probe may take to be over, before it counts as failed without an answer.
const GRACE: Duration = Duration::from_secs(10);

/// Most bytes that are kept of what a probe says.
const SAID: usize = 4096;

/// The probes of one start of a workspace.
pub(super) struct Probes<'a> {
    client: &'a Client,
    name: &'a Name,
    interval: Option<Duration>,
    begun: Instant,
    number: u64,
    failures: u32,
    state: State,
}

/// What is waited for.
enum State {
    /// The workspace has no health to probe.
    Off,
    /// The time of the next probe.
    Next(Instant, Health),
    /// The answer of the one that is under way, until it is given up.
    Answer(Instant),
}

impl<'a> Probes<'a> {
    pub(super) fn new(client: &'a Client, name: &'a Name, interval: Option<Duration>, begun: Instant) -> Probes<'a> {
        let mut probes = Probes { client, name, interval, begun, number: 0, failures: 0, state: State::Off };
        probes.plan();
        probes
    }

    /// Plans the next probe as the record says now: it may have been changed meanwhile.
    fn plan(&mut self) {
        let health = self.client.record(self.name).ok().and_then(|record| record.health);
        self.state = match health.filter(|health| !health.exec.is_empty() || health.http_get.is_some()) {
            None => State::Off,
            Some(health) => {
                let interval = self.interval.unwrap_or(Duration::from_secs(health.interval_seconds.max(1)));
                State::Next(Instant::now() + interval, health)
            }
        };
    }

    /// When there is something to be done, if there ever is.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Off => None,
            State::Next(at, _) | State::Answer(at) => Some(at),
        }
    }

    /// Does what is due: begins a probe, or gives up the one that does not end.
    pub(super) fn turn(&mut self, told: &Sender<Happening>) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Off => {}
            State::Answer(_) => self.count(false),
            State::Next(_, health) => {
                // One whose processors stand still is neither well nor unwell.
                if self.client.record(self.name)?.phase == Phase::Running {
                    self.begin(&health, told.clone());
                    let limit = Duration::from_secs(health.timeout_seconds) + GRACE;
                    self.state = State::Answer(Instant::now() + limit);
                } else {
                    self.plan();
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, health: &Health, told: Sender<Happening>) {
        self.number += 1;
        let number = self.number;
        let (client, name) = (self.client.clone(), self.name.clone());
        let (exec, page) = (health.exec.clone(), health.http_get.clone());
        let timeout = Duration::from_secs(health.timeout_seconds.max(1));
        std::thread::spawn(move || {
            let answer = match page {
                Some(page) => serves(&client, &name, page, timeout),
                None => runs(&client, &name, exec, timeout),
            };
            // One that cannot be made has failed.
            let well = answer.unwrap_or(false);
            let _ = told.send(Happening::Probed { number, well });
        });
    }

    /// Takes in the answer of a probe. One that was given up comes too late.
    pub(super) fn heard(&mut self, number: u64, well: bool) {
        if number == self.number && matches!(self.state, State::Answer(_)) {
            self.count(well);
        }
    }

    fn count(&mut self, well: bool) {
        self.plan();
        let State::Next(_, health) = &self.state else { return };
        let starting = self.begun.elapsed() < Duration::from_secs(health.start_period_seconds);
        match well {
            true => self.failures = 0,
            false if starting => {}
            false => self.failures += 1,
        }
    }

    /// How many probes have failed in a row, if that are too many.
    pub(super) fn unwell(&self) -> Option<u32> {
        match &self.state {
            State::Next(_, health) if self.failures >= health.retries.max(1) => Some(self.failures),
            _ => None,
        }
    }
}

/// Whether a command of the workspace succeeds in that time.
fn runs(client: &Client, name: &Name, argv: Vec<String>, timeout: Duration) -> Result<bool, Error> {
    let options = ExecOptions { timeout: Some(timeout), capture_limit: Some(SAID), ..ExecOptions::new(argv) };
    let status = client.exec(name, &options, RunIo::default())?.status;
    Ok(status.exit_code == 0 && !status.timed_out)
}

/// Whether a server of the workspace has that page, or knows where else it is, and says so in that time.
fn serves(client: &Client, name: &Name, page: HttpGet, timeout: Duration) -> Result<bool, Error> {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let deadline = Instant::now() + timeout.saturating_add(GRACE);
    match client.connect(name)?.ask(&Ask::HttpGet { page, timeout_ms }, Some(deadline))? {
        Answer::Http { status } => Ok((200..400).contains(&status)),
        other => Err(Connection::unexpected(&other)),
    }
}
