//! Processes by the session they are in.
//!
//! A command leads a session of its own, and whatever it starts is in it unless it left by `setsid(2)`. The kernel has no call that reaches
//! a session, so its processes are looked up in `/proc`.

use crate::sys;
use rustix::process::Pid;
use std::fs;

/// How often processes are looked for that were started while others were being found. A session that keeps starting them faster is
/// stopped by what stops a machine.
const MOST_SCANS: usize = 64;

/// Sends a signal to every process of the session `leader` led. Returns how many there were.
pub(crate) fn signal(leader: Pid, signal: i32) -> usize {
    let mut reached: Vec<Pid> = Vec::new();
    for _ in 0..MOST_SCANS {
        let found: Vec<Pid> = processes()
            .filter(|process| process.session == leader.as_raw_nonzero().get() && !process.is_dead)
            .filter_map(|process| Pid::from_raw(process.id))
            .filter(|pid| !reached.contains(pid))
            .collect();
        if found.is_empty() {
            break;
        }
        for pid in found {
            // It may have ended by itself.
            let _ = sys::signal_process(pid, signal);
            reached.push(pid);
        }
    }
    reached.len()
}

/// Whether a process of that id lives: then it is not the one of that id that was seen to end.
pub(crate) fn is_taken(id: Pid) -> bool {
    processes().any(|process| process.id == id.as_raw_nonzero().get())
}

/// Processes that belong to some command. The agent, what it forks and the kernel's threads are in no session.
pub(crate) fn count() -> u64 {
    processes().filter(|process| process.session != 0 && !process.is_dead).count() as u64
}

struct Process {
    id: i32,
    session: i32,
    is_dead: bool,
}

fn processes() -> impl Iterator<Item = Process> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        // A name may hold any byte.
        let stat = fs::read(entry.path().join("stat")).ok()?;
        let (state, session) = parse(&stat)?;
        Some(Process { id, session, is_dead: matches!(state, b'Z' | b'X') })
    })
}

/// State and session of `/proc/ID/stat` (`proc_pid_stat(5)`). The fields come after the name, which is in parentheses and may hold some.
fn parse(stat: &[u8]) -> Option<(u8, i32)> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(2)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_that_looks_like_fields_is_a_name() {
        assert_eq!(parse(b"42 (a) Z 1 2 3 (b) S 7 8 9 10 -1"), Some((b'S', 9)));
        assert_eq!(parse(b"42 (\xff) R 7 8 9 10"), Some((b'R', 9)));
        assert_eq!(parse(b"42 (cut"), None);
    }

    #[test]
    fn a_leader_is_found_in_the_session_it_leads() {
        // Of a session of its own: the one of the tests may have its leader outside the process namespace they run in, and then no id.
        let mut leader =
            Command::new("setsid").arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // What it echoes tells that it has become the leader it is to be.
        leader.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        leader.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();

        let id = leader.id().cast_signed();
        let seen = processes().find(|process| process.id == id).unwrap();
        assert_eq!((seen.session, seen.is_dead), (id, false));

        leader.kill().unwrap();
        leader.wait().unwrap();
    }
}
