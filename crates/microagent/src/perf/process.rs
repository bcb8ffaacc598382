//! What the host's kernel knows of a process.

use crate::Error;
use serde::Serialize;
use std::collections::BTreeSet;
use std::iter::Sum;
use std::path::PathBuf;
use std::time::Duration;

/// Clock ticks per second in `/proc`: `USER_HZ`, which is 100 on every architecture that runs here.
const TICKS_PER_SECOND: u64 = 100;

/// Memory of a process, or of several together, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Proportional share: what is shared with others is divided among them. The figure that adds up.
    pub pss_kib: u64,
    /// Resident: what is shared counts in full for everyone who shares it.
    pub rss_kib: u64,
    /// Written by this process and nobody else's: what ends with it.
    pub private_dirty_kib: u64,
}

impl Memory {
    /// Of the process `pid`.
    pub(crate) fn of(pid: u32) -> Result<Memory, Error> {
        let text = read(PathBuf::from(format!("/proc/{pid}/smaps_rollup")))?;
        Ok(Memory::parse(&text))
    }

    fn parse(rollup: &str) -> Memory {
        let field = |name: &str| {
            let value = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
        };
        Memory { pss_kib: field("Pss"), rss_kib: field("Rss"), private_dirty_kib: field("Private_Dirty") }
    }
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Memory>>(parts: I) -> Memory {
        parts.fold(Memory::default(), |sum, part| Memory {
            pss_kib: sum.pss_kib + part.pss_kib,
            rss_kib: sum.rss_kib + part.rss_kib,
            private_dirty_kib: sum.private_dirty_kib + part.private_dirty_kib,
        })
    }
}

/// Processor time the process `pid` has used.
pub(crate) fn processor_time(pid: u32) -> Result<Duration, Error> {
    let stat = read(PathBuf::from(format!("/proc/{pid}/stat")))?;
    // `utime` and `stime`, fields 14 and 15 of proc_pid_stat(5).
    let ticks: u64 = fields(&stat).skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Ids of the processes that this one has started and that still run.
pub(super) fn children() -> Result<BTreeSet<u32>, Error> {
    let own = std::process::id().to_string();
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        fields(&stat).nth(1) == Some(own.as_str())
    };
    let entries = std::fs::read_dir("/proc").map_err(microagent_state::Error::io("list", "/proc"))?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(is_child).collect())
}

/// The fields of `/proc/PID/stat` from the third on: the second is the program's name and may hold anything.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

fn read(path: PathBuf) -> Result<String, Error> {
    Ok(std::fs::read_to_string(&path).map_err(microagent_state::Error::io("read", path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_taken_from_its_own_line() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0  [rollup]\nRss:            1616 kB\nPss:             289 kB\n\
                      Pss_Dirty:       112 kB\nPrivate_Clean:     8 kB\nPrivate_Dirty:   108 kB\n";
        let memory = Memory::parse(rollup);
        assert_eq!(memory, Memory { pss_kib: 289, rss_kib: 1616, private_dirty_kib: 108 });
        assert_eq!([memory, memory].into_iter().sum::<Memory>().pss_kib, 578);
    }

    #[test]
    fn a_program_cannot_pass_for_another_by_its_name() {
        let stat = "7 (x) R 1 (y) S 42 7 7 0 -1 4194304 1 0 0 0 150 25 0 0";
        assert_eq!(fields(stat).nth(1), Some("42"));
    }

    #[test]
    fn a_started_process_is_a_child_and_has_memory() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(children().unwrap().contains(&child.id()));
        assert!(Memory::of(child.id()).unwrap().rss_kib > 0);
        processor_time(child.id()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!children().unwrap().contains(&child.id()));
    }
}
