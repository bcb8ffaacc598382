//! Events and logs as they come.

use crate::host::{BUSYBOX, Host, Running};

/// A workspace that runs and says a line, and then one for every one that it is told.
fn talking(host: &Host) {
    let service = "mknod /told p; echo begun; while :; do cat /told; done";
    host.microagent(["create", "talk", "--image", BUSYBOX, "--profile", "tiny", "--service-command", service])
        .expect(0);
    host.microagent(["start", "talk"]).expect(0);
}

#[test]
fn events_come_as_they_happen_and_end_with_the_workspace() {
    let host = Host::new();
    talking(&host);
    let following = Running::start(host.command(["events", "talk", "--follow"]), " running ");
    host.microagent(["pause", "talk", "--reason", "a look"]).expect(0);
    host.microagent(["resume", "talk"]).expect(0);
    host.microagent(["halt", "talk"]).expect(0);
    let rest = following.finish().expect(0).text();
    let events: Vec<_> = rest.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(events[events.len() - 4..], ["paused", "running", "stopping", "halted"], "{rest}");
    assert!(rest.contains("paused       by cli: a look"), "{rest}");
}

#[test]
fn logs_come_as_they_are_said_and_end_with_the_workspace() {
    let host = Host::new();
    talking(&host);
    let following = Running::start(host.command(["logs", "talk", "--follow"]), "begun\n");
    for word in ["one", "two"] {
        let line = format!("echo {word} > /told");
        host.microagent(["exec", "talk", "--", "/bin/sh", "-c", &line]).expect(0);
    }
    // What was written last is told before the end is.
    host.microagent(["exec", "talk", "--", "/bin/sh", "-c", "seq 20000 > /told"]).expect(0);
    host.microagent(["halt", "talk"]).expect(0);
    let rest = following.finish().expect(0).text();
    assert!(rest.starts_with("one\ntwo\n1\n2\n"), "{}", &rest[..rest.len().min(100)]);
    let whole = host.microagent(["logs", "talk", "--only", "stdout"]).expect(0).text();
    assert!(whole == format!("begun\n{rest}"), "{} bytes were said, {} followed", whole.len(), rest.len());
}
