//! The processes of one workspace.

use crate::host::Host;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::time::{Duration, Instant};

/// How long a killed process may take to be gone, on a host that is very busy.
const END: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// How long nobody comes when nobody is going to.
const QUIET: Duration = Duration::from_secs(1);

/// Process id of the engine of a workspace that runs.
pub(crate) fn engine(host: &Host, name: &str) -> u32 {
    let directory = host.state().join("workspaces").join(name);
    let opens = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.starts_with(&directory))
    };
    let found: Vec<u32> = host.engines().into_iter().filter(opens).collect();
    assert_eq!(found.len(), 1, "engines of `{name}`");
    found[0]
}

/// Process id of its supervisor.
pub(crate) fn supervisor(host: &Host, name: &str) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", engine(host, name))).unwrap();
    // The parent is the second field after the name, which is in parentheses.
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Kills whoever runs a workspace or is about to, until nobody has come for a while: a process that is just being started cannot be told
/// from the one that starts it.
pub(crate) fn kill_supervisors(host: &Host, name: &str) {
    let mut last = Instant::now();
    while last.elapsed() < QUIET {
        if let Some(supervisor) = supervisor_on_its_way(host, name) {
            kill(supervisor);
            last = Instant::now();
        }
        std::thread::sleep(QUIET / 20);
    }
}

/// Process id of a supervisor, with or without an engine, by its command line.
fn supervisor_on_its_way(host: &Host, name: &str) -> Option<u32> {
    let state = host.state().to_str().unwrap();
    let is_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
        words[0].ends_with("microagent-supervisor") && words.contains(&state) && words.last() == Some(&name)
    };
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).find(is_it)
}

/// Kills a process, and waits until it is gone.
pub(crate) fn kill(pid: u32) {
    // One that has ended by itself meanwhile is gone as well.
    let Ok(pidfd) = pidfd_open(Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty()) else { return };
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&END)).unwrap(), 1, "process {pid} does not end");
}
