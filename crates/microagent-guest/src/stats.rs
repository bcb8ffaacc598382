//! What the machine is busy with.

use crate::identity::monotonic_ns;
use crate::session;
use microagent_protocol::{Capacity, Stats};
use std::fs;
use std::path::Path;

/// Nanoseconds of a tick in `/proc/stat`: hundredths of a second on every architecture (`USER_HZ`).
const NS_PER_TICK: u64 = 10_000_000;

/// Reads what the kernel counts. `disk` is where the workspace's disk is mounted.
pub(crate) fn read(disk: &Path) -> rustix::io::Result<Stats> {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let processor = fs::read_to_string("/proc/stat").unwrap_or_default();
    Ok(Stats {
        memory_total: kibibytes(&memory, "MemTotal:") << 10,
        memory_available: kibibytes(&memory, "MemAvailable:") << 10,
        cpu_busy_ns: busy_ticks(&processor) * NS_PER_TICK,
        uptime_ns: monotonic_ns(),
        processes: session::count(),
        disk: capacity(disk)?,
    })
}

/// The size of the file system at `path`.
pub(crate) fn capacity(path: &Path) -> rustix::io::Result<Capacity> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Capacity { size_bytes: stat.f_blocks * stat.f_frsize, free_bytes: stat.f_bavail * stat.f_frsize })
}

fn kibibytes(memory: &str, name: &str) -> u64 {
    let line = memory.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Of the first line, which sums all processors: user, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen. What
/// comes after is counted in the first two already.
fn busy_ticks(processor: &str) -> u64 {
    let line = processor.lines().next().unwrap_or_default();
    let ticks = line.split_ascii_whitespace().skip(1).take(8).enumerate();
    ticks.filter(|(field, _)| !matches!(field, 3 | 4)).filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_processors_and_those_that_wait_are_not_busy() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 1 1 1\n"), 63);
        assert_eq!(busy_ticks(""), 0);
    }

    #[test]
    fn memory_is_in_kibibytes() {
        let memory = "MemTotal:         246816 kB\nMemAvailable:     200000 kB\n";
        assert_eq!((kibibytes(memory, "MemTotal:"), kibibytes(memory, "MemFree:")), (246_816, 0));
    }
}
