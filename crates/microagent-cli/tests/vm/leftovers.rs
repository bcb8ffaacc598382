//! Many runs leave as little as one.

use crate::host::{BUSYBOX, Host};
use std::thread;

const SEQUENTIAL: usize = 300;
const PARALLEL: usize = 16;

/// What the pages between those that are in use can add to a template's memory, once.
const SPREAD: u64 = 4 << 20;

#[test]
fn three_hundred_runs_in_a_row_leave_nothing() {
    let host = Host::new();
    let files = || walk(host.state());
    host.microagent(["template", "prepare", "--profile", "tiny"]).expect(0);
    let client = microagent::Client::open(Some(host.state())).unwrap();
    let templates = || {
        let list = client.templates().unwrap();
        (list.len(), list[0].rehearsed, list[0].bytes())
    };
    host.shell("true");
    let (before, (count, rehearsed, bytes)) = (files(), templates());
    for round in 0..SEQUENTIAL {
        let ran =
            host.microagent(["run", "--quiet", "--profile", "tiny", BUSYBOX, "echo", &round.to_string()]).expect(0);
        assert_eq!(ran.text(), format!("{round}\n"));
    }
    assert_eq!(files(), before);
    let (count_after, rehearsed_after, bytes_after) = templates();
    assert_eq!((count_after, rehearsed_after), (count, rehearsed));
    assert!(bytes_after - bytes <= SPREAD, "the template's memory has grown by {} bytes", bytes_after - bytes);
    host.assert_nothing_left();
}

#[test]
fn sixteen_runs_at_once_do_not_meet() {
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
