//! Whole runs, one after the other.

use super::host::PerfHost;
use super::statistics::{ByPhase, Statistics, round};
use super::subject::Subject;
use super::{MAX_ITERATIONS, check_range};
use crate::{Client, Command, Error, RunIo, RunOptions, RunReport, Start, Templates, Timing};
use microagent_protocol::FaultReport;
use serde::Serialize;
use std::time::Instant;

/// What [`Client::perf_boot`] and [`Client::perf_ready`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Where.
    pub host: PerfHost,
    /// What.
    pub subject: Subject,
    /// Each time, in order.
    pub iterations: Vec<Iteration>,
    /// All of them together.
    pub summary: Summary,
    /// What exactly was timed.
    pub boundary: String,
}

/// One of the times something was done.
#[derive(Clone, Debug, Serialize)]
pub struct Iteration {
    /// Which, from 1.
    pub index: u32,
    /// How the machine came up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Milliseconds of each phase; empty when it failed.
    pub phases_ms: ByPhase<f64>,
    /// Milliseconds of all of it.
    pub total_ms: f64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FaultReport>,
}

/// What many iterations have to say.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// How many there were.
    pub count: usize,
    /// How many failed; their times are in none of the statistics.
    pub failures: usize,
    /// The milliseconds of each phase.
    pub phases_ms: ByPhase<Statistics>,
    /// The milliseconds of all of it; absent when every one failed.
    pub total_ms: Option<Statistics>,
}

const BOUNDARY: &str = "from the call to its return: everything a disposable run does, with its image and kernel already here, but not \
                        the start of this process";

pub(super) fn boot(client: &Client, options: &RunOptions, iterations: u32) -> Result<Measurement, Error> {
    let mut options = options.clone();
    options.workspace.templates = Templates::Off;
    measure(client, &options, 0, iterations)
}

pub(super) fn ready(
    client: &Client,
    options: &RunOptions,
    warmups: u32,
    iterations: u32,
) -> Result<Measurement, Error> {
    measure(client, options, warmups, iterations)
}

fn measure(client: &Client, options: &RunOptions, warmups: u32, iterations: u32) -> Result<Measurement, Error> {
    check_range("--warmups", warmups, 0, MAX_ITERATIONS)?;
    check_range("--iterations", iterations, 1, MAX_ITERATIONS)?;
    let (subject, options) = Subject::prepare(client, options)?;
    let host = PerfHost::before(client, &options)?;
    for _ in 0..warmups {
        run(client, &options)?;
    }
    let iterations = (1..=iterations).map(|index| iterate(client, &options, index)).collect::<Result<Vec<_>, _>>()?;
    let summary = Summary::of(&iterations);
    Ok(Measurement { host: host.after(), subject, iterations, summary, boundary: BOUNDARY.to_owned() })
}

/// A run that fails is counted, unless that was the caller's wish or the fault of what was asked.
fn iterate(client: &Client, options: &RunOptions, index: u32) -> Result<Iteration, Error> {
    let begun = Instant::now();
    let outcome = run(client, options);
    let total_ms = round(begun.elapsed().as_secs_f64() * 1e3);
    match outcome {
        Ok(report) => Ok(Iteration {
            index,
            start: Some(report.start),
            phases_ms: ByPhase(phases(report.timing)),
            total_ms,
            failure: None,
        }),
        Err(error @ (Error::Interrupted | Error::BadOption { .. })) => Err(error),
        Err(error) => {
            let failure = Some(error.report());
            Ok(Iteration { index, start: None, phases_ms: ByPhase::default(), total_ms, failure })
        }
    }
}

/// The phases alone: the total is measured here, around the call.
fn phases(timing: Timing) -> Vec<(&'static str, f64)> {
    timing.phases().into_iter().filter(|(phase, _)| *phase != "total").collect()
}

fn run(client: &Client, options: &RunOptions) -> Result<RunReport, Error> {
    let report = client.run(options, RunIo::default())?;
    match report.result.exit_code {
        0 => Ok(report),
        code => Err(Error::BadOption {
            option: "--exec",
            value: spell(&options.command),
            reason: format!("it ended with exit code {code}, and only what succeeds is worth timing"),
        }),
    }
}

fn spell(command: &Command) -> String {
    match command {
        Command::Image => "the image's own command".to_owned(),
        Command::Arguments(words) => words.join(" "),
        Command::Shell(line) => line.clone(),
    }
}

impl Summary {
    pub(super) fn of(iterations: &[Iteration]) -> Summary {
        let good: Vec<&Iteration> = iterations.iter().filter(|iteration| iteration.failure.is_none()).collect();
        let phases = good.first().map_or(&[][..], |first| &first.phases_ms.0);
        let phases = phases.iter().enumerate().filter_map(|(position, (phase, _))| {
            Some((*phase, Statistics::of(good.iter().map(|iteration| iteration.phases_ms.0[position].1))?))
        });
        Summary {
            count: iterations.len(),
            failures: iterations.len() - good.len(),
            phases_ms: ByPhase(phases.collect()),
            total_ms: Statistics::of(good.iter().map(|iteration| iteration.total_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iteration(index: u32, boot: f64) -> Iteration {
        let phases_ms = ByPhase(vec![("boot", boot), ("command", 1.0)]);
        Iteration { index, start: Some(Start::Cold), phases_ms, total_ms: boot + 1.0, failure: None }
    }

    #[test]
    fn a_failure_is_counted_and_its_time_is_not() {
        let failed = Iteration {
            phases_ms: ByPhase::default(),
            failure: Some(Error::Entropy.report()),
            ..iteration(1, 60_000.0)
        };
        let summary = Summary::of(&[failed.clone(), iteration(2, 10.0), iteration(3, 30.0)]);
        assert_eq!((summary.count, summary.failures), (3, 1));
        assert_eq!(summary.total_ms, Statistics::of([11.0, 31.0]));
        let ByPhase(phases) = summary.phases_ms;
        assert_eq!(phases.iter().map(|(phase, _)| *phase).collect::<Vec<_>>(), ["boot", "command"]);
        assert_eq!((phases[0].1.p50, phases[0].1.mean), (10.0, 20.0));

        let nothing = Summary::of(&[failed]);
        assert_eq!((nothing.failures, nothing.total_ms), (1, None));
    }
}
