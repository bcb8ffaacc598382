//! Snapshots: machines that are written down while they run, and go on from that as often as wanted.

mod connected;
mod copies;
mod crashes;
mod load;
mod refused;
mod secrets;

use crate::host::{BUSYBOX, Host};

/// Counts in the memory of one process: each line that it is sent is one more.
const COUNTER: &str =
    "mknod /count p && (exec 3<>/count; n=0; while read -r line <&3; do n=$((n+1)); echo $n > /n; done)";

/// Has the counter of a workspace count, and says what it has come to. The file is empty for the moment in which it is written.
const COUNT: &str = "before=$(cat /n 2>/dev/null); echo more > /count; \
                     while now=$(cat /n 2>/dev/null); [ -z \"$now\" ] || [ \"$now\" = \"$before\" ]; do sleep 0.01; done; \
                     echo $now";

/// A workspace that runs and counts.
fn counting(host: &Host, name: &str, arguments: &[&str]) {
    let create = ["create", name, "--image", BUSYBOX, "--profile", "tiny"];
    host.microagent(create.iter().chain(arguments)).expect(0);
    host.microagent(["start", name]).expect(0);
    host.microagent(["exec", name, "--detach", "--", "sh", "-c", COUNTER]).expect(0);
    shell(host, name, "while [ ! -p /count ]; do sleep 0.01; done");
}

#[track_caller]
fn shell(host: &Host, name: &str, line: &str) -> String {
    host.microagent(["exec", name, "--", "/bin/sh", "-c", line]).expect(0).text()
}

#[track_caller]
fn count(host: &Host, name: &str) -> u32 {
    shell(host, name, COUNT).trim().parse().unwrap()
}

fn kill(host: &Host, name: &str) {
    host.microagent(["kill", name, "--reason", "its end", "--yes"]).expect(0);
}
