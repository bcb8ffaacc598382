//! A machine that does nothing, watched for a while.

use super::host::PerfHost;
use super::idle::IdleMachines;
use super::process::{Memory, processor_time};
use super::statistics::{Statistics, round};
use super::subject::Subject;
use crate::{Client, Error, RunOptions};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The shortest time between two samples: processor time is counted in hundredths of a second, so a tenth still shows one in ten.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Most samples of one measurement.
const MAX_SAMPLES: u128 = 100_000;

const BOUNDARY: &str = "memory of the engine process at the end of each interval, and the processor time it used in it as a share of \
                        one processor, while the machine's command sleeps";

/// What [`Client::perf_steady`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Steady {
    /// Where.
    pub host: PerfHost,
    /// What.
    pub subject: Subject,
    /// Each look at the machine, in order.
    pub samples: Vec<SteadySample>,
    /// All of them together.
    pub summary: SteadySummary,
    /// What exactly was measured.
    pub boundary: String,
}

/// One look at the machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SteadySample {
    /// Milliseconds since the machine began to idle.
    pub at_ms: f64,
    /// Processor time since the sample before, in percent of one processor.
    pub cpu_percent: f64,
    /// Memory of the engine process.
    #[serde(flatten)]
    pub memory: Memory,
}

/// What many samples have to say.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SteadySummary {
    /// How many there were.
    pub count: usize,
    /// The processor time.
    pub cpu_percent: Option<Statistics>,
    /// The proportional share of memory.
    pub pss_kib: Option<Statistics>,
}

pub(super) fn measure(
    client: &Client,
    options: &RunOptions,
    duration: Duration,
    interval: Duration,
) -> Result<Steady, Error> {
    let count = samples_in(duration, interval)?;
    let (subject, options) = Subject::prepare(client, options)?;
    let host = PerfHost::before(client, &options)?;
    let machine = IdleMachines::start(client, &options, 1)?;
    let samples = watch(&machine, interval, count)?;
    drop(machine);
    Ok(Steady {
        host: host.after(),
        subject,
        summary: SteadySummary::of(&samples),
        samples,
        boundary: BOUNDARY.to_owned(),
    })
}

/// How many whole intervals there are.
fn samples_in(duration: Duration, interval: Duration) -> Result<u128, Error> {
    let bad = |option, value: Duration, reason: &str| {
        Err(Error::BadOption { option, value: format!("{value:?}"), reason: reason.to_owned() })
    };
    if interval < MIN_INTERVAL {
        return bad("--interval", interval, "the shortest interval is 100 ms");
    }
    match duration.as_nanos() / interval.as_nanos() {
        0 => bad("--duration", duration, "it is shorter than one interval"),
        count if count > MAX_SAMPLES => bad("--duration", duration, "more than 100000 intervals are too many"),
        count => Ok(count),
    }
}

fn watch(machine: &IdleMachines, interval: Duration, count: u128) -> Result<Vec<SteadySample>, Error> {
    let used = || machine.engines().iter().map(|&pid| processor_time(pid)).sum::<Result<Duration, Error>>();
    let begun = Instant::now();
    let (mut then, mut used_then) = (begun, used()?);
    let mut samples = Vec::new();
    for _ in 0..count {
        machine.idle_for(interval)?;
        let (now, used_now) = (Instant::now(), used()?);
        let memory = machine.engines().iter().map(|&pid| Memory::of(pid)).sum::<Result<Memory, Error>>()?;
        samples.push(SteadySample {
            at_ms: round((now - begun).as_secs_f64() * 1e3),
            cpu_percent: round(used_now.saturating_sub(used_then).as_secs_f64() / (now - then).as_secs_f64() * 100.0),
            memory,
        });
        (then, used_then) = (now, used_now);
    }
    Ok(samples)
}

impl SteadySummary {
    fn of(samples: &[SteadySample]) -> SteadySummary {
        #[allow(clippy::cast_precision_loss, reason = "no process has so many KiB that a float could not count them")]
        let pss = |sample: &SteadySample| sample.memory.pss_kib as f64;
        SteadySummary {
            count: samples.len(),
            cpu_percent: Statistics::of(samples.iter().map(|sample| sample.cpu_percent)),
            pss_kib: Statistics::of(samples.iter().map(pss)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_intervals_of_a_sensible_length_are_sampled() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        assert_eq!(samples_in(minute, second).unwrap(), 60);
        assert_eq!(samples_in(Duration::from_millis(2500), second).unwrap(), 2);
        for (duration, interval, option) in [
            (second, minute, "--duration"),
            (second, Duration::from_millis(1), "--interval"),
            (Duration::from_hours(10_000), second, "--duration"),
        ] {
            let error = samples_in(duration, interval).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
