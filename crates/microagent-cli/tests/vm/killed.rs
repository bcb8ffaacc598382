//! The command is stopped, politely or not: the machine ends with it, and what is left `gc` clears.

use crate::host::{BUSYBOX, Host, Running};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

/// The kernel kills the engine at once; this is for a host that is very busy.
const ENGINE_END: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

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
    let [engine] = host.engines()[..] else { panic!("one engine is running") };
    let engine = pidfd_open(Pid::from_raw(engine.cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    child.send(Signal::KILL);
    child.finish();
    let ended = poll(&mut [PollFd::new(&engine, PollFlags::IN)], Some(&ENGINE_END)).unwrap();
    assert_eq!(ended, 1, "the engine outlived the command");

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
