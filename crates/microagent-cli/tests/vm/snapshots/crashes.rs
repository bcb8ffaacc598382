//! Any process is killed at any moment: the workspace is what it was, and what is left `gc` clears.

use super::{count, counting, kill, shell};
use crate::host::{Host, Running};
use crate::lifecycle::machine;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Moments at which something is killed, in milliseconds after it began: while it gets ready, writes, publishes, boots and answers.
const MOMENTS: [u64; 8] = [1, 5, 15, 40, 100, 250, 600, 1500];

/// Whatever is in a directory of snapshots that no tag leads to.
fn unfinished(host: &Host, name: &str) -> Vec<String> {
    let directory = host.state().join("workspaces").join(name).join("snapshots");
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.starts_with('.')).collect()
}

/// Files of this state directory on tmpfs that no template and no capture refers to.
fn strays(state: &Path) -> Vec<String> {
    let directory = format!("/dev/shm/microagent-{}", rustix::process::geteuid().as_raw());
    let owners = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = owners.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let text = ours.filter_map(|path| Some((fs::read_to_string(&path).ok()?, path)));
    let ours = text.filter(|(owner, _)| owner.contains(state.to_str().unwrap()));
    let stray = ours.filter(|(owner, path)| {
        let owner: serde_json::Value = serde_json::from_str(owner).unwrap();
        let key = owner["key"].as_str().unwrap();
        let record = Path::new(owner["templates"].as_str().unwrap()).join(key).join("record.json");
        let memory = path.file_stem().unwrap().to_str().unwrap();
        !fs::read_to_string(record).is_ok_and(|record| record.contains(memory))
    });
    stray.map(|(_, path)| path.display().to_string()).collect()
}

#[track_caller]
fn assert_cleared(host: &Host) {
    host.await_no_engine();
    host.microagent(["gc"]).expect(0);
    assert_eq!(unfinished(host, "box"), Vec::<String>::new());
    assert_eq!(strays(host.state()), Vec::<String>::new());
    assert!(!host.state().join("workspaces/box/restoring").exists());
}

#[test]
fn a_supervisor_or_an_engine_that_dies_while_it_takes_a_snapshot_leaves_the_workspace_and_no_half_of_one() {
    let host = Host::new();
    counting(&host, "box", &[]);
    shell(&host, "box", "echo kept > /kept; sync");
    for (number, moment) in MOMENTS.into_iter().enumerate() {
        let victim = if number % 2 == 0 { machine::supervisor(&host, "box") } else { machine::engine(&host, "box") };
        let taking = Running::start_silent(host.command(["snapshot", "create", "box", &format!("at{moment}")]));
        std::thread::sleep(Duration::from_millis(moment));
        machine::kill(victim);
        let taken = taking.finish();
        assert!(taken.status == 0 || taken.status == 1, "{}: {}", taken.status, taken.stderr);
        host.microagent(["wait", "box", "--timeout", "60"]);
        assert_cleared(&host);
        let list = host.microagent(["snapshot", "list", "box"]).expect(0).text();
        if taken.status == 0 {
            host.microagent(["snapshot", "inspect", "box", &format!("at{moment}")]).expect(0);
        }
        host.microagent(["start", "box"]).expect(0);
        assert_eq!(shell(&host, "box", "cat /kept"), "kept\n", "after {moment} ms, with {list}");
    }
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn a_restore_that_is_killed_leaves_the_disk_as_it_was_or_as_the_snapshot_has_it() {
    let host = Host::new();
    counting(&host, "box", &[]);
    shell(&host, "box", "echo then > /what; sync");
    host.microagent(["snapshot", "create", "box", "then"]).expect(0);
    shell(&host, "box", "echo now > /what; sync");
    kill(&host, "box");
    for moment in MOMENTS {
        let restoring = Running::start_silent(host.command(["snapshot", "restore", "box", "then", "--yes"]));
        std::thread::sleep(Duration::from_millis(moment));
        restoring.send(Signal::KILL);
        restoring.finish();
        // The end of the command is not that of the supervisor it started.
        machine::kill_supervisors(&host, "box");
        assert_cleared(&host);
        host.microagent(["start", "box"]).expect(0);
        let what = shell(&host, "box", "cat /what");
        assert!(what == "now\n" || what == "then\n", "{what}");
        shell(&host, "box", "echo now > /what; sync");
        kill(&host, "box");
    }
    host.microagent(["snapshot", "restore", "box", "then", "--yes"]).expect(0);
    assert_eq!(count(&host, "box"), 1, "and the snapshot is still good");
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn forks_that_are_killed_on_the_way_are_no_workspaces_or_whole_ones() {
    let host = Host::new();
    counting(&host, "box", &[]);
    host.microagent(["snapshot", "create", "box", "one"]).expect(0);
    for moment in MOMENTS {
        let forking =
            Running::start_silent(host.command(["snapshot", "fork", "box:one", "--count", "2", "--name", "copy"]));
        std::thread::sleep(Duration::from_millis(moment));
        forking.send(Signal::KILL);
        forking.finish();
        // Supervisors that were on their way go on; what has none is cleared.
        std::thread::sleep(Duration::from_secs(2));
        host.microagent(["gc"]).expect(0);
        for copy in ["copy-1", "copy-2"] {
            let found = host.microagent(["--json", "status", copy]);
            if found.status == 0 {
                let phase = found.json()["phase"].clone();
                if phase == "running" {
                    assert_eq!(count(&host, copy), 1);
                }
                host.microagent(["delete", copy, "--force"]).expect(0);
            }
        }
        host.microagent(["gc"]).expect(0);
        assert!(count(&host, "box") > 0, "the source runs");
    }
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}
