//! Whoever runs a command: signals, sudden ends, leaving and coming back.

use super::workspace::{Case, NAME, Workspace};
use crate::host::Running;
use rustix::process::Signal;

#[test]
fn a_command_belongs_to_whoever_runs_it_until_they_let_go() {
    Workspace::start().check(CASES);
}

/// Reads the fifo, and says so when it is there.
fn reader(box_: &Workspace, fifo: &str) -> Running {
    box_.sh(&format!("/bin/busybox mkfifo {fifo}")).expect(0);
    Running::start(
        box_.command(&[], &["/bin/sh", "-c", &format!("echo reading; cat {fifo}; echo released")]),
        "reading",
    )
}

/// Starts `line`, which says `up`, while it holds the fifo.
fn holder(box_: &Workspace, fifo: &str, line: &str) -> Running {
    let line = format!("exec 8>{fifo}; {line}");
    Running::start(box_.command(&[], &["/bin/sh", "-c", &line]), "up")
}

fn detach(box_: &Workspace, line: &str) -> String {
    box_.exec(&["--detach"], &["/bin/sh", "-c", line]).expect(0).text().trim().to_owned()
}

const CASES: &[Case] = &[
    ("Ctrl-C is for the command", |box_| {
        let line = "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.1; done";
        let running = Running::start(box_.command(&[], &["/bin/sh", "-c", line]), "up");
        running.send(Signal::INT);
        let ran = running.finish().expect(9);
        assert!(ran.text().contains("caught"), "{}", ran.text());
    }),
    ("a signal that the command does not handle ends it, and shows", |box_| {
        // No shell: those of busybox ignore some, and lose others when they become another program.
        for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)] {
            let running = Running::start(box_.command(&[], &["/bin/busybox", "yes", "up"]), "up");
            running.send(signal);
            assert_eq!(running.finish().status, status, "{signal:?}");
        }
    }),
    ("a command begins with no signal ignored or blocked", |box_| {
        let text = box_.exec(&[], &["cat", "/proc/self/status"]).expect(0).text();
        for field in ["SigBlk", "SigIgn"] {
            assert!(text.contains(&format!("{field}:\t0000000000000000\n")), "{text}");
        }
    }),
    ("a signal reaches the whole group", |box_| {
        let line = "echo up; sleep 20002 | sleep 20002";
        let running = Running::start(box_.command(&[], &["/bin/sh", "-c", line]), "up");
        running.send(Signal::TERM);
        running.finish().expect(143);
        assert!(!box_.exec(&[], &["ps"]).expect(0).text().contains("20002"));
    }),
    ("a command is hung up on when who runs it is killed", |box_| {
        let reader = reader(box_, "/hung-up");
        let line = "trap 'echo hung up >&8; exit' HUP; echo up; while :; do sleep 0.1; done";
        let running = holder(box_, "/hung-up", line);
        running.send(Signal::KILL);
        let ran = reader.finish().expect(0);
        assert!(ran.text().contains("hung up"), "{}", ran.text());
    }),
    ("a command that does not care is killed then", |box_| {
        let reader = reader(box_, "/killed");
        let running = holder(box_, "/killed", "trap '' HUP TERM; echo up; while :; do sleep 1; done");
        running.send(Signal::KILL);
        assert!(reader.finish().expect(0).text().contains("released"));
    }),
    ("a command that was detached outlives who started it, and is listed", |box_| {
        let id = detach(box_, "echo $$ > /pid; echo said; exec sleep 20003");
        let listed = box_.json(&["exec", NAME, "--list"]);
        let found = listed["processes"].as_array().unwrap().iter().find(|process| process["process"] == id.as_str());
        let found = found.unwrap_or_else(|| panic!("{id} is not in {listed}"));
        assert_eq!((found["detached"].as_bool(), found.get("ending")), (Some(true), None));
        assert!(box_.microagent(["exec", NAME, "--list"]).expect(0).text().contains("20003"));
        box_.sh("kill $(cat /pid)").expect(0);
        box_.microagent(["exec", NAME, "--attach", &id]).expect(143);
    }),
    ("attaching tells what was said before, and then what comes", |box_| {
        box_.sh("/bin/busybox mkfifo /go-on").expect(0);
        let id = detach(box_, "echo before; echo warning >&2; read line < /go-on; echo after $line; exit 3");
        let attached = Running::start(box_.host.command(["exec", NAME, "--attach", &id]), "before");
        box_.sh("echo now > /go-on").expect(0);
        let ran = attached.finish().expect(3);
        assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("\nafter now\n", "warning\n"));
    }),
    ("who attaches later takes over, twice", |box_| {
        box_.sh("/bin/busybox mkfifo /taken").expect(0);
        let id = detach(box_, "echo begun; read line < /taken; echo $line; exit 4");
        let attach = || Running::start(box_.host.command(["exec", NAME, "--attach", &id]), "begun\n");
        let (first, second, third) = (attach(), attach(), attach());
        box_.sh("echo end > /taken").expect(0);
        assert_eq!(third.finish().expect(4).text(), "end\n");
        for replaced in [first, second] {
            assert_eq!(replaced.finish().expect(4).text(), "");
        }
    }),
    ("who attaches and is killed leaves the command running", |box_| {
        box_.sh("/bin/busybox mkfifo /survives").expect(0);
        let id = detach(box_, "echo begun; read line < /survives; echo $line; exit 5");
        let attached = Running::start(box_.host.command(["exec", NAME, "--attach", &id]), "begun");
        attached.send(Signal::KILL);
        drop(attached);
        let attached = Running::start(box_.host.command(["exec", NAME, "--attach", &id]), "begun\n");
        box_.sh("echo still > /survives").expect(0);
        assert_eq!(attached.finish().expect(5).text(), "still\n");
    }),
    ("attaching after the end tells what was said, and how it ended", |box_| {
        let id = detach(box_, "echo long gone; exit 6");
        let attached = box_.microagent(["exec", NAME, "--attach", &id]).expect(6);
        assert_eq!(attached.text(), "long gone\n");
    }),
    ("what was said before attaching is its end, where it was much", |box_| {
        let id = detach(box_, "dd if=/dev/zero bs=64k count=64 2>/dev/null; echo the end; exit 7");
        let text = box_.microagent(["exec", NAME, "--attach", &id]).expect(7).stdout;
        assert!(text.ends_with(b"the end\n"));
    }),
    ("an id that nothing has is an error that names it", |box_| {
        for id in ["99999", "-1x", "0", "abc"] {
            let attach = format!("--attach={id}");
            let ran = box_.microagent(["exec", NAME, &attach]).expect(125);
            assert!(ran.stderr.contains(&format!("`{id}`")), "{}", ran.stderr);
        }
    }),
    ("a detached command that cannot be started says so when asked", |box_| {
        let id = box_.exec(&["--detach"], &["/no/such/program"]).expect(0).text().trim().to_owned();
        let ran = box_.microagent(["exec", NAME, "--attach", &id]);
        assert_eq!(ran.status, 127, "{}", ran.stderr);
    }),
];
