//! Many runs leave as little as one.

use crate::host::{BUSYBOX, Host};
use std::thread;

const SEQUENTIAL: usize = 200;
const PARALLEL: usize = 8;

#[test]
fn two_hundred_runs_in_a_row_leave_nothing() {
    let host = Host::new();
    let files = || walk(host.state());
    host.shell("true");
    let before = files();
    for round in 0..SEQUENTIAL {
        let ran =
            host.microagent(["run", "--quiet", "--profile", "tiny", BUSYBOX, "echo", &round.to_string()]).expect(0);
        assert_eq!(ran.text(), format!("{round}\n"));
    }
    assert_eq!(files(), before);
    host.assert_nothing_left();
}

#[test]
fn eight_runs_at_once_do_not_meet() {
    let host = Host::new();
    thread::scope(|scope| {
        for number in 0..PARALLEL {
            let host = &host;
            scope.spawn(move || {
                let line = format!("echo {number} > /mine; sleep 1; cat /mine; hostname");
                let report = host.shell(&line);
                let name = report["workspace"].as_str().unwrap();
                assert_eq!(report["result"]["stdout"], format!("{number}\n{name}\n"));
            });
        }
    });
    host.assert_nothing_left();
}

/// Every path below `root`.
fn walk(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
