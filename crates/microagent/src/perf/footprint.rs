//! What machines that do nothing take of the host's memory.

use super::check_range;
use super::host::PerfHost;
use super::idle::IdleMachines;
use super::process::Memory;
use super::statistics::Statistics;
use super::subject::Subject;
use crate::{Client, Error, RunOptions};
use serde::Serialize;

/// Most machines at once; the host's memory ends sooner.
const MAX_COUNT: u32 = 1000;

const BOUNDARY: &str = "memory of the engine processes when the command of every machine has begun to sleep; of what several processes \
                        share, each has its part in its PSS";

/// What [`Client::perf_footprint`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Footprint {
    /// Where.
    pub host: PerfHost,
    /// What.
    pub subject: Subject,
    /// Each engine process.
    pub engines: Vec<EngineMemory>,
    /// One engine process compared with another.
    pub summary: FootprintSummary,
    /// All engine processes together.
    pub total: Memory,
    /// The calling process itself.
    pub own: Memory,
    /// What exactly was measured.
    pub boundary: String,
}

/// Memory of one engine process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EngineMemory {
    /// Its process id.
    pub pid: u32,
    /// Its memory.
    #[serde(flatten)]
    pub memory: Memory,
}

/// What many engine processes have to say.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FootprintSummary {
    /// How many machines there were.
    pub count: u32,
    /// Their proportional shares.
    pub pss_kib: Option<Statistics>,
    /// Their resident memory.
    pub rss_kib: Option<Statistics>,
    /// What each wrote itself.
    pub private_dirty_kib: Option<Statistics>,
}

pub(super) fn measure(client: &Client, options: &RunOptions, count: u32) -> Result<Footprint, Error> {
    check_range("--count", count, 1, MAX_COUNT)?;
    let (subject, options) = Subject::prepare(client, options)?;
    let host = PerfHost::before(client, &options)?;
    let machines = IdleMachines::start(client, &options, count)?;
    let measured = machines.engines().iter().map(|&pid| Ok(EngineMemory { pid, memory: Memory::of(pid)? }));
    let engines = measured.collect::<Result<Vec<_>, Error>>()?;
    let own = Memory::of(std::process::id())?;
    drop(machines);
    Ok(Footprint {
        host: host.after(),
        subject,
        summary: FootprintSummary::of(count, &engines),
        total: engines.iter().map(|engine| engine.memory).sum(),
        own,
        engines,
        boundary: BOUNDARY.to_owned(),
    })
}

impl FootprintSummary {
    fn of(count: u32, engines: &[EngineMemory]) -> FootprintSummary {
        #[allow(clippy::cast_precision_loss, reason = "no process has so many KiB that a float could not count them")]
        let spread =
            |figure: fn(&Memory) -> u64| Statistics::of(engines.iter().map(|engine| figure(&engine.memory) as f64));
        FootprintSummary {
            count,
            pss_kib: spread(|memory| memory.pss_kib),
            rss_kib: spread(|memory| memory.rss_kib),
            private_dirty_kib: spread(|memory| memory.private_dirty_kib),
        }
    }
}
