//! Many commands: one after the other, and at once.

use super::workspace::{NAME, Workspace, finish, name};
use crate::host::Ran;
use crate::lifecycle::machine;
use microagent::{ExecOptions, RunIo};
use std::fs;

const IN_A_ROW: i32 = 1_000;
const AT_ONCE: i32 = 32;

/// How much more memory a supervisor may have after so many commands: what an allocator keeps, and far less than one kilobyte of each.
const SLACK_KIB: u64 = 4 << 10;

/// What a process takes.
#[derive(Debug)]
struct Taken {
    files: usize,
    threads: u64,
    memory_kib: u64,
}

impl Taken {
    fn by(pid: u32) -> Taken {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Taken {
            files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            threads: number("Threads:"),
            memory_kib: number("VmRSS:"),
        }
    }
}

fn guest_processes(workspace: &Workspace) -> u64 {
    workspace.json(&["stats", NAME])["guest"]["processes"].as_u64().unwrap()
}

#[test]
fn a_thousand_commands_in_a_row_leave_nothing_behind() {
    let workspace = Workspace::start();
    let (client, name, supervisor) = (workspace.client(), name(), machine::supervisor(&workspace.host, NAME));
    let run = |number: i32| {
        let options = ExecOptions::new(["/bin/sh", "-c", &format!("echo {number}; exit {}", number % 256)]);
        let report = client.exec(&name, &options, RunIo::default()).unwrap();
        assert_eq!((report.stdout, report.status.exit_code), (format!("{number}\n"), number % 256));
    };
    (0..100).for_each(run);
    let (before, processes) = (Taken::by(supervisor), guest_processes(&workspace));
    (0..IN_A_ROW).for_each(run);
    assert_eq!(guest_processes(&workspace), processes);
    let after = Taken::by(supervisor);
    // Threads and descriptors of the last connections may be on their way out.
    assert!(after.files <= before.files + 8 && after.threads <= before.threads + 8, "{before:?} became {after:?}");
    assert!(after.memory_kib <= before.memory_kib + SLACK_KIB, "{before:?} became {after:?}");
    let listed = workspace.json(&["exec", NAME, "--list"]);
    assert_eq!(listed["processes"].as_array().unwrap().len(), 0, "{listed}");
}

#[test]
fn many_commands_at_once_do_not_mix() {
    let workspace = Workspace::start();
    let line = |number: i32| {
        format!(
            "i=0; while [ $i -lt 200 ]; do echo out {number} $i; echo err {number} $i >&2; i=$((i+1)); done; exit {number}"
        )
    };
    let children: Vec<_> =
        (0..AT_ONCE).map(|number| workspace.command(&[], &["/bin/sh", "-c", &line(number)]).spawn().unwrap()).collect();
    let lines =
        |what: &str, number: i32| (0..200).map(|i| format!("{what} {number} {i}\n")).collect::<Vec<_>>().concat();
    for (number, child) in (0..).zip(children) {
        let ran: Ran = finish(child);
        let ran = ran.expect(number);
        assert_eq!((ran.text(), ran.stderr), (lines("out", number), lines("err", number)));
    }
}
