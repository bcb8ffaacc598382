//! Commands in one machine.
//!
//! The set-up steps of a run are commands like any other, each asked for when the one before it has ended, so a run with many of them is
//! many round trips in one machine, and its progress tells when each begins. The run's own command then does the same work in a loop of
//! its shell, and the guest's clock says how long that took.

use super::host::PerfHost;
use super::runs::{Iteration, Measurement, Summary};
use super::statistics::{ByPhase, round};
use super::subject::Subject;
use super::{MAX_ITERATIONS, check_range};
use crate::{Client, Command, Error, Event, Progress, RunIo, RunOptions, RunReport};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Round trips that are not counted: in an emulated machine code is translated when it first runs, and pages are touched.
const WARMUPS: u32 = 3;

const BOUNDARY: &str = "one round trip of `/bin/sh -c LINE` in a machine that is up: from sending the request to the last of the output \
                        being here, the first three not counted";
const GUEST_BOUNDARY: &str = "`/bin/sh -c LINE` started by a loop of the guest's own shell, by the guest's clock: its time from start to \
                              end divided by the number of processes, the loop's own included";

/// What [`Client::perf_exec`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct ExecMeasurement {
    /// The round trips.
    #[serde(flatten)]
    pub measurement: Measurement,
    /// The same work without a round trip.
    pub guest: GuestForkExec,
    /// The median round trip divided by the guest's own time.
    pub ratio: f64,
}

/// What starting a process costs inside the guest.
#[derive(Clone, Debug, Serialize)]
pub struct GuestForkExec {
    /// How many processes were started.
    pub count: u32,
    /// Milliseconds for each, on average.
    pub mean_ms: f64,
    /// What exactly was timed.
    pub boundary: String,
}

pub(super) fn measure(client: &Client, options: &RunOptions, iterations: u32) -> Result<ExecMeasurement, Error> {
    check_range("--iterations", iterations, 1, MAX_ITERATIONS)?;
    let (subject, options) = Subject::prepare(client, options)?;
    let host = PerfHost::before(client, &options)?;
    let line = match &options.command {
        Command::Shell(line) => line.clone(),
        Command::Image | Command::Arguments(_) => "true".to_owned(),
    };
    let options = RunOptions {
        command: Command::Shell(in_a_loop(&line, iterations)),
        setup: vec![line; (WARMUPS + iterations) as usize],
        ..options
    };
    let marks = Arc::new(Marks::default());
    let report =
        client.clone().with_progress(Arc::clone(&marks) as Arc<dyn Progress>).run(&options, RunIo::default())?;
    let iterations = marks.round_trips();
    let summary = Summary::of(&iterations);
    let guest = guest_time(&report, options.setup.len() as u32 - WARMUPS);
    let ratio = round(summary.total_ms.map_or(f64::NAN, |total| total.p50) / guest.mean_ms);
    let boundary = BOUNDARY.to_owned();
    let measurement = Measurement { host: host.after(), subject, iterations, summary, boundary };
    Ok(ExecMeasurement { measurement, guest, ratio })
}

/// A shell line that starts a shell with `line` as often as `times` says. Single quotes keep what is in them for the inner shell.
fn in_a_loop(line: &str, times: u32) -> String {
    let quoted = line.replace('\'', r"'\''");
    format!("i=0; while [ $i -lt {times} ]; do /bin/sh -c '{quoted}' || exit; i=$((i+1)); done")
}

/// The shell of the loop is a process like those it starts, so it counts as one.
fn guest_time(report: &RunReport, started: u32) -> GuestForkExec {
    let count = started + 1;
    let took = report.result.exited_at.duration_since(report.result.started_at);
    let mean_ms = round(took.as_secs_f64() * 1e3 / f64::from(count));
    GuestForkExec { count, mean_ms, boundary: GUEST_BOUNDARY.to_owned() }
}

/// When each set-up step began, and when the last had ended.
#[derive(Default)]
struct Marks(Mutex<Vec<Instant>>);

impl Progress for Marks {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Setup { .. } | Event::Running) {
            let now = Instant::now();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(now);
        }
    }
}

impl Marks {
    fn round_trips(&self) -> Vec<Iteration> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let milliseconds = |pair: &[Instant]| round((pair[1] - pair[0]).as_secs_f64() * 1e3);
        let counted = marks.windows(2).skip(WARMUPS as usize).map(milliseconds);
        let iteration = |(index, total_ms)| {
            let phases_ms = ByPhase(vec![("round_trip", total_ms)]);
            Iteration { index, start: None, phases_ms, total_ms, failure: None }
        };
        (1..).zip(counted).map(iteration).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_round_trip_ends_where_the_next_begins_and_the_first_are_left_out() {
        let marks = Marks::default();
        let begun = Instant::now();
        let offsets = [0, 900, 1000, 1100, 1105, 1112];
        *marks.0.lock().unwrap() = offsets.map(|ms| begun + Duration::from_millis(ms)).to_vec();
        let trips: Vec<_> = marks.round_trips().iter().map(|trip| (trip.index, trip.total_ms)).collect();
        assert_eq!(trips, [(1, 5.0), (2, 7.0)]);
    }

    #[test]
    fn the_loop_runs_the_line_as_often_as_asked_and_as_it_is_written() {
        let line = in_a_loop("printf %s \"it's $i;\"", 3);
        let ran = std::process::Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "it's ;it's ;it's ;");
    }
}
