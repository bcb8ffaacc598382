//! Measuring this host: how long runs and commands take, and what machines cost while they do nothing.
//!
//! | call | what is measured |
//! |---|---|
//! | [`Client::perf_boot`] | whole disposable runs that boot their kernel |
//! | [`Client::perf_ready`] | whole disposable runs as a user has them, restored from a template when there is one |
//! | [`Client::perf_exec`] | commands in one machine, against the guest's own `fork` and `exec` |
//! | [`Client::perf_footprint`] | memory of machines that idle |
//! | [`Client::perf_steady`] | memory and processor time of an idle machine over a while |
//!
//! Each takes the [`RunOptions`] of the runs to measure, of which the name and `keep` have no effect. Image and kernel are fetched before
//! anything is timed. Every result says on which [`host`](PerfHost) and [`subject`](Subject) it was measured, and in one sentence, its
//! `boundary`, what exactly was; a figure without these means nothing.

mod exec;
mod footprint;
mod host;
mod idle;
mod process;
mod runs;
mod statistics;
mod steady;
mod subject;

pub use exec::{ExecMeasurement, GuestForkExec};
pub use footprint::{EngineMemory, Footprint, FootprintSummary};
pub use host::PerfHost;
pub use process::Memory;
pub(crate) use process::processor_time;
pub use runs::{Iteration, Measurement, Summary};
pub use statistics::{ByPhase, Statistics};
pub use steady::{Steady, SteadySample, SteadySummary};
pub use subject::Subject;

use crate::{Client, Error, RunOptions};
use std::time::Duration;

/// Most times anything is repeated: enough for any percentile, and not yet a day.
const MAX_ITERATIONS: u32 = 10_000;

impl Client {
    /// Boots, runs and removes a machine `iterations` times, without templates.
    pub fn perf_boot(&self, options: &RunOptions, iterations: u32) -> Result<Measurement, Error> {
        runs::boot(self, options, iterations)
    }

    /// Runs `options` `iterations` times, with or without templates as they say, after `warmups` runs that are not counted.
    pub fn perf_ready(&self, options: &RunOptions, warmups: u32, iterations: u32) -> Result<Measurement, Error> {
        runs::ready(self, options, warmups, iterations)
    }

    /// Runs a shell line `iterations` times in one machine, then as often from a loop in the guest. The line is the command of `options`
    /// if that is one, else `true`.
    pub fn perf_exec(&self, options: &RunOptions, iterations: u32) -> Result<ExecMeasurement, Error> {
        exec::measure(self, options, iterations)
    }

    /// Has `count` machines idle at the same time, and measures the memory of their engine processes.
    ///
    /// An engine is recognised as a child of this process that was not there before: a program that starts other processes meanwhile
    /// finds them counted too.
    pub fn perf_footprint(&self, options: &RunOptions, count: u32) -> Result<Footprint, Error> {
        footprint::measure(self, options, count)
    }

    /// Has one machine idle for `duration`, and looks at its engine process once every `interval`.
    ///
    /// The engine is recognised as in [`Client::perf_footprint`].
    pub fn perf_steady(&self, options: &RunOptions, duration: Duration, interval: Duration) -> Result<Steady, Error> {
        steady::measure(self, options, duration, interval)
    }
}

/// Refuses a number that is not from `min` to `max`.
fn check_range(option: &'static str, value: u32, min: u32, max: u32) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::OutOfRange { option, value: value.into(), min: min.into(), max: max.into() })
}
