//! What copies have in common with what they were copied from, and what they have not.

use super::{count, counting, kill, shell};
use crate::host::Host;
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// What tells one machine from another, and the time it thinks it is.
const IDENTITY: &str =
    "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid; date +%s";

/// How far a guest's clock may be off by the time somebody looks at it, on a very busy host.
const LATE: u64 = 60;

/// Host name, machine id, boot id and a random number of the kernel's.
#[track_caller]
fn identity(host: &Host, name: &str) -> [String; 4] {
    let said = shell(host, name, IDENTITY);
    let mut lines = said.lines().map(str::to_owned);
    let identity = std::array::from_fn(|_| lines.next().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let clock: u64 = lines.next().unwrap().parse().unwrap();
    assert!(now.abs_diff(clock) < LATE, "its clock says {clock}, at {now}");
    identity
}

#[test]
fn every_copy_goes_on_from_the_same_value_as_somebody_of_its_own() {
    let host = Host::new();
    counting(&host, "box", &[]);
    assert_eq!([count(&host, "box"), count(&host, "box"), count(&host, "box")], [1, 2, 3]);
    // Whatever the clock was, it is right afterwards.
    shell(&host, "box", "date -s @1000000000");
    let report = host.microagent(["--json", "snapshot", "create", "box", "three"]).expect(0).json();
    assert!(report["pause_ms"].as_f64().is_some_and(|pause| pause > 0.0), "{report}");
    assert_eq!(count(&host, "box"), 4, "the parent goes on");

    let forked = host.microagent(["--json", "snapshot", "fork", "box:three", "--count", "10"]).expect(0).json();
    let forks = forked["forks"].as_array().unwrap();
    let names: Vec<String> = forks.iter().map(|fork| fork["workspace"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 10, "{forked}");
    let mut identities = vec![identity(&host, "box")];
    for name in &names {
        assert_eq!(count(&host, name), 4, "{name} goes on from the value in the snapshot");
        let identity = identity(&host, name);
        assert_eq!(&identity[0], name, "the name is its own");
        identities.push(identity);
    }
    for field in 0..4 {
        let different: BTreeSet<_> = identities.iter().map(|identity| &identity[field]).collect();
        assert_eq!(different.len(), identities.len(), "field {field} of {identities:?}");
    }
    assert_eq!(count(&host, "box"), 5, "the parent notices nothing");
    let deletes: Vec<&str> = names.iter().map(String::as_str).collect();
    host.microagent([&["delete", "--force"], &deletes[..]].concat()).expect(0);

    // Twice back to where it was.
    for _ in 0..2 {
        shell(&host, "box", "echo lost > /lost");
        kill(&host, "box");
        host.microagent(["snapshot", "restore", "box", "three", "--yes"]).expect(0);
        assert_eq!(count(&host, "box"), 4);
        assert_eq!(shell(&host, "box", "ls /lost 2>&1 || true").trim(), "ls: /lost: No such file or directory");
        identities.push(identity(&host, "box"));
    }
    let boots: BTreeSet<_> = identities.iter().map(|identity| &identity[2]).collect();
    assert_eq!(boots.len(), identities.len(), "each time it is another machine");
    let listed = host.microagent(["exec", "box", "--list"]).expect(0).text();
    assert!(listed.contains("running"), "the counter is known to the new supervisor: {listed}");
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn a_snapshot_of_a_fork_of_what_was_restored_goes_on_too() {
    let host = Host::new();
    counting(&host, "one", &[]);
    assert_eq!(count(&host, "one"), 1);
    host.microagent(["snapshot", "create", "one", "first"]).expect(0);
    kill(&host, "one");
    host.microagent(["start", "one", "--from-snapshot", "first"]).expect(0);
    assert_eq!(count(&host, "one"), 2);
    host.microagent(["snapshot", "create", "one", "second"]).expect(0);
    host.microagent(["snapshot", "fork", "one:second", "--name", "two"]).expect(0);
    assert_eq!(count(&host, "two"), 3);
    let third = host.microagent(["--json", "snapshot", "create", "two", "third"]).expect(0).json();
    // What was there before is kept once.
    assert!(third["bytes"].as_u64().unwrap() < third["shared_bytes"].as_u64().unwrap(), "{third}");
    // Nothing of where it came from is needed.
    host.microagent(["delete", "one", "--force"]).expect(0);
    host.microagent(["gc"]).expect(0);
    // Nor what is only kept to be fast.
    host.microagent(["template", "prune", "--all"]).expect(0);
    host.microagent(["create", "three", "--from-snapshot", "two:third"]).expect(0);
    assert_eq!([count(&host, "two"), count(&host, "three")], [4, 4]);
    host.microagent(["delete", "two", "three", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn a_paused_workspace_stays_so_while_it_is_written_down() {
    let host = Host::new();
    counting(&host, "box", &[]);
    assert_eq!(count(&host, "box"), 1);
    host.microagent(["pause", "box"]).expect(0);
    let refused = host.microagent(["--json", "exec", "box", "--", "true"]);
    assert!(refused.stderr.contains("workspace_state") && refused.stderr.contains("paused"), "{}", refused.stderr);
    host.microagent(["snapshot", "create", "box", "still"]).expect(0);
    assert_eq!(host.microagent(["--json", "status", "box"]).expect(0).json()["phase"], "paused");
    host.microagent(["snapshot", "fork", "box:still", "--name", "copy"]).expect(0);
    assert_eq!(count(&host, "copy"), 2);
    host.microagent(["resume", "box"]).expect(0);
    assert_eq!(count(&host, "box"), 2);
    host.microagent(["delete", "box", "copy", "--force"]).expect(0);
}

#[test]
fn a_machine_that_booted_without_a_template_is_written_down_as_well() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", crate::host::BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", "box", "--cold"]).expect(0);
    shell(&host, "box", "echo kept > /kept");
    host.microagent(["snapshot", "create", "box", "cold"]).expect(0);
    host.microagent(["snapshot", "fork", "box:cold", "--name", "copy"]).expect(0);
    assert_eq!(shell(&host, "copy", "cat /kept"), "kept\n");
    host.microagent(["delete", "box", "copy", "--force"]).expect(0);
}

#[test]
fn a_snapshot_of_a_workspace_at_rest_has_its_disk() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", crate::host::BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    shell(&host, "box", "echo then > /what");
    host.microagent(["halt", "box"]).expect(0);
    let report = host.microagent(["--json", "snapshot", "create", "box", "disk"]).expect(0).json();
    assert_eq!(report["kind"], "disk");
    host.microagent(["start", "box"]).expect(0);
    shell(&host, "box", "echo later > /what");
    host.microagent(["halt", "box"]).expect(0);
    host.microagent(["snapshot", "restore", "box", "disk", "--yes"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    assert_eq!(shell(&host, "box", "cat /what"), "then\n");
    host.microagent(["create", "other", "--from-snapshot", "box:disk"]).expect(0);
    host.microagent(["start", "other"]).expect(0);
    assert_eq!(shell(&host, "other", "cat /what; hostname"), "then\nother\n");
    host.microagent(["delete", "box", "other", "--force"]).expect(0);
}

#[test]
fn the_service_of_a_workspace_goes_on_in_its_copies() {
    let host = Host::new();
    // The file is empty for the moment in which it is written.
    let reached = |more_than: u32| {
        let wait = "while now=$(cat /n 2>/dev/null); [ -z \"$now\" ] || [ \"$now\" -le";
        format!("{wait} {more_than} ]; do sleep 0.1; done; echo $now")
    };
    let service = "n=0; while true; do n=$((n+1)); echo said $n; echo $n > /n; sleep 0.2; done";
    let create = ["create", "box", "--image", crate::host::BUSYBOX, "--profile", "tiny", "--service-command", service];
    host.microagent(create).expect(0);
    host.microagent(["start", "box"]).expect(0);
    let said: u32 = shell(&host, "box", &reached(0)).trim().parse().unwrap();
    host.microagent(["snapshot", "create", "box", "serving"]).expect(0);
    host.microagent(["snapshot", "fork", "box:serving", "--name", "copy"]).expect(0);
    shell(&host, "copy", &reached(said + 3));
    let logs = host.microagent(["logs", "copy"]).expect(0).text();
    assert!(logs.contains("said ") && !logs.contains("said 1\n"), "only what the copy said is in its log: {logs}");
    // When the service ends, the workspace does, as ever.
    let service =
        host.microagent(["exec", "copy", "--", "sh", "-c", "kill $(ps | grep '[s]aid' | head -n 1 | cut -c1-5)"]);
    service.expect(0);
    host.microagent(["wait", "copy", "--timeout", "60"]);
    let phase = host.microagent(["--json", "status", "copy"]).expect(0).json()["phase"].clone();
    assert!(phase == "failed" || phase == "stopped", "{phase}");
    shell(&host, "box", "true");
    host.microagent(["delete", "box", "copy", "--force"]).expect(0);
}

#[test]
fn what_a_deleted_snapshot_took_is_free_while_what_went_on_from_it_runs() {
    let host = Host::new();
    counting(&host, "box", &[]);
    host.microagent(["snapshot", "create", "box", "one"]).expect(0);
    host.microagent(["create", "copy", "--from-snapshot", "box:one"]).expect(0);
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.microagent(["gc"]).expect(0);
    let layers = std::fs::read_dir(host.state().join("layers")).unwrap().flatten();
    let left: Vec<_> = layers.map(|layer| layer.file_name()).filter(|name| name != ".lock").collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(count(&host, "copy"), 1);
    host.microagent(["delete", "copy", "--force"]).expect(0);
}
