//! Commands while the workspace is not simply running.

use super::workspace::{LIMIT, NAME, Workspace, finish, name};
use crate::host::{BUSYBOX, Host, Running};
use crate::lifecycle::machine;
use std::time::Instant;

/// Fails unless a command is refused, with a word on why.
#[track_caller]
fn assert_refused(workspace: &Workspace, state: &str) {
    let ran = workspace.sh("true").expect(125);
    assert!(ran.stderr.contains(state), "{}", ran.stderr);
    let told = workspace.microagent(["--json", "exec", NAME, "--", "true"]);
    assert_ne!(told.status, 0);
    assert!(told.stderr.contains("workspace_state"), "{}", told.stderr);
}

#[test]
fn a_command_needs_a_workspace_that_runs() {
    let workspace = Workspace::create(Host::new(), &["--image", BUSYBOX]);
    assert_refused(&workspace, "prepared");
    workspace.microagent(["start", NAME]).expect(0);
    workspace.sh("true").expect(0);
    workspace.microagent(["halt", NAME]).expect(0);
    assert_refused(&workspace, "halted");
    workspace.microagent(["start", NAME]).expect(0);
    workspace.microagent(["kill", NAME, "--yes", "--reason", "a test"]).expect(0);
    assert_refused(&workspace, "stopped");
}

#[test]
fn nothing_runs_or_is_reached_while_a_workspace_is_paused_and_all_goes_on_after() {
    let workspace = Workspace::start();
    let line = "echo up; i=0; while [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done; echo on; exit 3";
    let running = Running::start(workspace.command(&[], &["/bin/sh", "-c", line]), "up");
    workspace.microagent(["pause", NAME]).expect(0);
    assert_refused(&workspace, "paused");
    for refused in [["cp", "box:/etc/passwd", "/dev/null"].as_slice(), &["stats", NAME], &["diff", NAME]] {
        let ran = workspace.microagent(refused);
        assert_ne!(ran.status, 0, "{refused:?}");
        assert!(ran.stderr.contains("paused"), "{refused:?}: {}", ran.stderr);
    }
    workspace.microagent(["resume", NAME]).expect(0);
    workspace.sh("true").expect(0);
    assert!(running.finish().expect(3).text().ends_with("on\n"));
}

#[test]
fn a_command_ends_with_an_error_when_its_workspace_is_halted() {
    let workspace = Workspace::start();
    let running = Running::start(workspace.command(&[], &["/bin/sh", "-c", "echo up; exec sleep 30001"]), "up");
    workspace.microagent(["halt", NAME]).expect(0);
    let ran = running.finish();
    assert!(matches!(ran.status, 125 | 137 | 143), "{}: {}", ran.status, ran.stderr);
}

#[test]
fn a_command_is_refused_while_its_workspace_comes_to_rest() {
    let service = "trap 'echo asked; read line < /go; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let workspace = Workspace::start_with(&["--image", BUSYBOX, "--service-command", service]);
    workspace.sh("/bin/busybox mkfifo /go").expect(0);
    // Holds the fifo open, so that what is written into it later does not need a command then.
    let writer = Running::start(workspace.command(&["-i"], &["/bin/sh", "-c", "exec 3<>/go; echo up; cat >&3"]), "up");
    let halt = workspace.host.command(["halt", NAME]).spawn().unwrap();
    let watch = workspace.client();
    let begun = Instant::now();
    while watch.status(&name()).unwrap().record.phase != microagent::Phase::Stopping {
        assert!(begun.elapsed() < LIMIT, "the halt did not begin");
        std::thread::yield_now();
    }
    assert_refused(&workspace, "stopping");
    finish(halt).expect(0);
    let ran = writer.finish();
    assert!(matches!(ran.status, 0 | 125 | 137 | 143), "{}: {}", ran.status, ran.stderr);
}

#[test]
fn whatever_is_under_way_ends_when_the_engine_dies() {
    let workspace = Workspace::start();
    let command = |flags: &[&str], line: &str| Running::start(workspace.command(flags, &["/bin/sh", "-c", line]), "up");
    let under_way = [
        command(&[], "echo up; exec sleep 30002"),
        command(&["--timeout", "1h"], "echo up; exec sleep 30003"),
        command(&[], "echo up; while :; do echo more; done"),
    ];
    let copy = workspace.host.command(["cp", "box:/dev/zero", "-"]).spawn().unwrap();
    machine::kill(machine::engine(&workspace.host, NAME));
    for running in under_way {
        let ran = running.finish().expect(125);
        assert!(!ran.stderr.is_empty());
    }
    assert_ne!(finish(copy).status, 0);
    workspace.microagent(["wait", NAME]).expect(1);
    assert_refused(&workspace, "failed");
}
