//! The command is stopped, politely or not: the machine ends with it, and what is left `gc` clears.

use crate::host::{BUSYBOX, Host, Running};
use rustix::process::Signal;
use std::time::Duration;

/// Moments at which a run is killed, in milliseconds after its start: while it plans, makes its workspace, boots, runs and cleans up.
const MOMENTS: [u64; 14] = [1, 3, 5, 8, 12, 20, 50, 150, 400, 900, 1500, 2200, 3000, 4000];

fn begin(host: &Host, line: &str) -> Running {
    Running::start(host.command(["run", "--profile", "tiny", "--image", BUSYBOX, "--exec", line]), "up")
}

#[test]
fn an_interrupt_reaches_the_command_and_cleans_up() {
    let host = Host::new();
    let child = begin(&host, "trap 'echo stopping; exit 5' INT; echo up; while :; do sleep 1; done");
    child.send(Signal::INT);
    let ran = child.finish().expect(130);
    assert!(ran.text().contains("stopping"), "{}", ran.text());
    host.assert_nothing_left();
}

#[test]
fn a_second_interrupt_does_not_wait_for_a_stubborn_command() {
    let host = Host::new();
    let child = begin(&host, "trap '' INT; echo up; while :; do sleep 1; done");
    child.send(Signal::INT);
    child.send(Signal::INT);
    child.finish().expect(130);
    host.assert_nothing_left();
}

#[test]
fn a_killed_command_takes_its_machine_with_it_and_gc_clears_the_rest() {
    let host = Host::new();
    let child = begin(&host, "echo up; sleep 600");
    assert_eq!(host.engines().len(), 1);
    child.send(Signal::KILL);
    child.finish();
    host.await_no_engine();

    let list = host.microagent(["--json", "list"]).expect(0).json();
    assert_eq!(list["workspaces"][0]["state"], "failed");
    host.microagent(["gc"]).expect(0);
    host.assert_nothing_left();
}

#[test]
fn gc_leaves_a_running_workspace_alone() {
    let host = Host::new();
    let _child = begin(&host, "echo up; sleep 600");
    host.microagent(["gc"]).expect(0);
    let list = host.microagent(["--json", "list"]).expect(0).json();
    assert_eq!(list["workspaces"].as_array().unwrap().len(), 1);
    let name = list["workspaces"][0]["name"].as_str().unwrap().to_owned();
    let refused = host.microagent(["delete", &name, "--yes"]).expect(1);
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
}

#[test]
fn a_run_killed_at_any_moment_leaves_nothing_that_gc_does_not_clear() {
    let host = Host::new();
    for moment in MOMENTS {
        let mut child = host.command(["run", "--profile", "tiny", BUSYBOX, "true"]).spawn().unwrap();
        // The moment is what is tested here, so nothing can be waited for.
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        host.await_no_engine();
        host.microagent(["gc"]).expect(0);
        host.assert_nothing_left();
    }
    host.shell("true");
}
