//! `exec --timeout`: it always fires.

use super::workspace::{Case, NAME, Workspace};

/// What `timeout(1)` ends with.
const TIMED_OUT: i32 = 124;

#[test]
fn a_command_ends_when_its_time_is_up() {
    Workspace::start().check(CASES);
}

/// Fails unless no process has `word` on its command line.
#[track_caller]
fn assert_gone(box_: &Workspace, word: &str) {
    let left = box_.exec(&[], &["ps"]).expect(0).text();
    assert!(!left.contains(word), "{left}");
}

const CASES: &[Case] = &[
    ("one that sleeps", |box_| {
        let ran = box_.exec(&["--timeout", "1"], &["sleep", "10001"]).expect(TIMED_OUT);
        assert!(ran.stderr.contains("time was up"), "{}", ran.stderr);
        assert_gone(box_, "10001");
    }),
    ("one that does not want to", |box_| {
        let line = "trap '' TERM INT HUP; echo on; while :; do sleep 10002; done";
        assert_eq!(box_.exec(&["--timeout", "1s"], &["/bin/sh", "-c", line]).expect(TIMED_OUT).text(), "on\n");
        assert_gone(box_, "10002");
    }),
    ("one whose child holds its output", |box_| {
        box_.exec(&["--timeout", "1s"], &["/bin/sh", "-c", "sleep 10003 & exit 3"]).expect(TIMED_OUT);
        assert_gone(box_, "10003");
    }),
    ("one whose child ignores it and has a group of its own", |box_| {
        let line = "set -m; /bin/sh -c 'trap \"\" TERM; sleep 10004; :' & wait";
        box_.exec(&["--timeout", "1s"], &["/bin/sh", "-c", line]).expect(TIMED_OUT);
        assert_gone(box_, "10004");
    }),
    ("one whose child has a session of its own, which is out of reach", |box_| {
        let line = "/bin/busybox setsid /bin/sh -c 'echo $$ > /pid; exec sleep 10005'; echo not reached";
        assert_eq!(box_.exec(&["--timeout", "1s"], &["/bin/sh", "-c", line]).expect(TIMED_OUT).text(), "");
        box_.sh("kill $(cat /pid)").expect(0);
    }),
    ("one that prints for ever", |box_| {
        let ran = box_.exec(&["--timeout", "1s"], &["/bin/busybox", "yes", "for-ever"]).expect(TIMED_OUT);
        assert!(ran.stdout.starts_with(b"for-ever\n"));
        assert_gone(box_, "for-ever");
    }),
    ("one that takes the hint and ends well was still too late", |box_| {
        let line = "trap 'echo bye; exit 0' TERM; sleep 10006 & wait";
        assert_eq!(box_.exec(&["--timeout", "1s"], &["/bin/sh", "-c", line]).expect(TIMED_OUT).text(), "bye\n");
        assert_gone(box_, "10006");
    }),
    ("one that stopped itself", |box_| {
        box_.exec(&["--timeout", "1s"], &["/bin/sh", "-c", "kill -STOP $$; echo 10007"]).expect(TIMED_OUT);
        assert_gone(box_, "10007");
    }),
    ("one with a terminal", |box_| {
        box_.exec(&["-t", "--timeout", "1s"], &["sleep", "10008"]).expect(TIMED_OUT);
        assert_gone(box_, "10008");
    }),
    ("JSON says so", |box_| {
        let told = box_.json(&["exec", NAME, "--timeout", "1s", "--", "/bin/sh", "-c", "echo before; sleep 10009"]);
        assert_eq!((told["timed_out"].as_bool(), told["stdout"].as_str()), (Some(true), Some("before\n")));
        assert_eq!(told["exit_code"], 143);
    }),
    ("one that is in time knows nothing of it", |box_| {
        box_.exec(&["--timeout", "1h"], &["/bin/sh", "-c", "exit 6"]).expect(6);
        let told = box_.json(&["exec", NAME, "--timeout", "1h", "--", "true"]);
        assert_eq!(told["timed_out"], false);
    }),
    ("a single line of `connect`", |box_| {
        box_.microagent(["connect", NAME, "--timeout", "1s", "--send", "sleep 10010"]).expect(TIMED_OUT);
        assert_gone(box_, "10010");
    }),
];
