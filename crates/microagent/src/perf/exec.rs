//! Commands in a workspace that runs.
//!
//! A workspace is made for it, started, and removed. Each command goes the way that `microagent exec` takes, over one connection to the
//! supervisor: asked for when the one before it has ended. Then the same work is done in a loop of the guest's shell, and the guest's clock
//! says how long that took.

use super::host::PerfHost;
use super::runs::{Iteration, Measurement, Summary};
use super::statistics::{ByPhase, round};
use super::subject::Subject;
use super::{MAX_ITERATIONS, check_range};
use crate::{Client, Command, CreateOptions, Error, ExecOptions, ExecReport, RunIo, RunOptions, StartOptions};
use microagent_state::Name;
use serde::Serialize;
use std::time::Instant;

/// Round trips that are not counted: in an emulated machine code is translated when it first runs, and pages are touched.
const WARMUPS: u32 = 3;

const BOUNDARY: &str = "one round trip of `/bin/sh -c LINE` in a workspace that runs, over a connection to its supervisor that is open: from \
                        sending the request to the last of the output being here, the first three not counted";
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
    let workspace = Temporary::start(client, &options)?;
    let trips = (0..WARMUPS + iterations).map(|_| workspace.round_trip(&line)).collect::<Result<Vec<f64>, Error>>()?;
    let guest = workspace.in_a_loop(&line, iterations)?;
    drop(workspace);
    let iterations = counted(&trips);
    let summary = Summary::of(&iterations);
    let ratio = round(summary.total_ms.map_or(f64::NAN, |total| total.p50) / guest.mean_ms);
    let boundary = BOUNDARY.to_owned();
    let measurement = Measurement { host: host.after(), subject, iterations, summary, boundary };
    Ok(ExecMeasurement { measurement, guest, ratio })
}

/// A workspace that is removed with this value.
struct Temporary<'a> {
    client: &'a Client,
    name: Name,
    connection: crate::Connection,
}

impl<'a> Temporary<'a> {
    fn start(client: &'a Client, options: &RunOptions) -> Result<Temporary<'a>, Error> {
        let mut create = CreateOptions::new(options.workspace.image.as_str());
        create.workspace.clone_from(&options.workspace);
        create.workspace.entrypoint = None;
        let name = client.create(&create, RunIo::default())?.workspace;
        let start = StartOptions {
            templates: options.workspace.templates,
            interrupt: options.workspace.interrupt.clone(),
            ..StartOptions::default()
        };
        let connected = client.start(&name, &start).and_then(|_| client.connect(&name));
        match connected {
            Ok(connection) => Ok(Temporary { client, name, connection }),
            Err(error) => {
                // The error is why nothing was measured; what stays can be listed.
                let _ = client.delete(&name, &crate::DeleteOptions::default());
                Err(error)
            }
        }
    }

    fn round_trip(&self, line: &str) -> Result<f64, Error> {
        let begun = Instant::now();
        self.shell(line)?;
        Ok(round(begun.elapsed().as_secs_f64() * 1e3))
    }

    fn shell(&self, line: &str) -> Result<ExecReport, Error> {
        let options = ExecOptions::new(crate::plan::shell_line(line));
        let (process, streams) = self.connection.exec(&options, false)?;
        self.client.follow(&self.name, &process, streams, RunIo::default(), [None; 2])
    }

    /// The shell of the loop is a process like those it starts, so it counts as one.
    fn in_a_loop(&self, line: &str, times: u32) -> Result<GuestForkExec, Error> {
        let status = self.shell(&in_a_loop(line, times))?.status;
        let count = times + 1;
        let took = status.exited_at.duration_since(status.started_at);
        let mean_ms = round(took.as_secs_f64() * 1e3 / f64::from(count));
        Ok(GuestForkExec { count, mean_ms, boundary: GUEST_BOUNDARY.to_owned() })
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // What cannot be removed can be listed.
        let _ = self.client.kill(&self.name, "measured".to_owned());
        let _ = self.client.delete(&self.name, &crate::DeleteOptions::default());
    }
}

/// A shell line that starts a shell with `line` as often as `times` says. Single quotes keep what is in them for the inner shell.
fn in_a_loop(line: &str, times: u32) -> String {
    let quoted = line.replace('\'', r"'\''");
    format!("i=0; while [ $i -lt {times} ]; do /bin/sh -c '{quoted}' || exit; i=$((i+1)); done")
}

/// The round trips that count.
fn counted(trips: &[f64]) -> Vec<Iteration> {
    let iteration = |(index, &total_ms)| {
        let phases_ms = ByPhase(vec![("round_trip", total_ms)]);
        Iteration { index, start: None, phases_ms, total_ms, failure: None }
    };
    (1..).zip(trips.iter().skip(WARMUPS as usize)).map(iteration).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_trips_are_left_out() {
        let trips: Vec<_> =
            counted(&[9.0, 8.0, 7.0, 5.0, 6.0]).iter().map(|trip| (trip.index, trip.total_ms)).collect();
        assert_eq!(trips, [(1, 5.0), (2, 6.0)]);
    }

    #[test]
    fn the_loop_runs_the_line_as_often_as_asked_and_as_it_is_written() {
        let line = in_a_loop("printf %s \"it's $i;\"", 3);
        let ran = std::process::Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "it's ;it's ;it's ;");
    }
}
