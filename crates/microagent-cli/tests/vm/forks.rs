//! What goes on from a snapshot is somebody of its own, and has nothing that it was not given.

use crate::host::{BUSYBOX, Host, Ran};
use crate::secrets::holders;
use std::collections::BTreeSet;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// What tells one machine from another, a line each. What random numbers are drawn from is asked for one.
const IDENTITY: &str = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid";
const VALUE: &str = "a-val7e-that-n0-copy-has";

fn shell(host: &Host, name: &str, line: &str) -> String {
    host.microagent(["exec", name, "--", "/bin/sh", "-c", line]).expect(0).text()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_fork_has_an_identity_a_clock_and_randomness_of_its_own() {
    let host = Host::new();
    host.microagent(["create", "first", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", "first"]).expect(0);
    // Never flushed: it is in memory alone.
    shell(&host, "first", "echo kept > /kept");
    host.microagent(["exec", "first", "--detach", "--", "sleep", "100000"]).expect(0);
    let before = shell(&host, "first", IDENTITY);
    let taken = host.microagent(["--json", "snapshot", "create", "first", "v1"]).expect(0).json();
    assert_eq!(taken["kind"], "full");
    assert!(taken["pause_ms"].as_f64().unwrap() > 0.0, "{taken}");
    host.microagent(["snapshot", "fork", "first:v1", "--count", "2", "--name", "copy"]).expect(0);

    let names = ["first", "copy-1", "copy-2"];
    let identities: Vec<String> = names.iter().map(|name| shell(&host, name, IDENTITY)).collect();
    let lines = |which: usize| identities.iter().map(move |identity| identity.lines().nth(which).unwrap().to_owned());
    assert_eq!(lines(0).collect::<Vec<_>>(), names);
    for which in 1..4 {
        assert_eq!(lines(which).collect::<BTreeSet<_>>().len(), names.len(), "line {which} of {identities:?}");
    }
    // The workspace it was taken of is who it was.
    let unchanged = before.lines().take(3).eq(identities[0].lines().take(3));
    assert!(unchanged, "{before}{}", identities[0]);
    for name in names {
        assert_eq!(shell(&host, name, "cat /kept; ps | grep -c '[s]leep 100000'"), "kept\n1\n", "{name}");
        let (from, time) = (now(), shell(&host, name, "date +%s"));
        let time: u64 = time.trim().parse().unwrap();
        assert!((from.saturating_sub(1)..=now() + 1).contains(&time), "{name}: {time}, and it was {from}");
        let listed = host.microagent(["exec", name, "--list"]).expect(0).text();
        assert!(listed.contains("sleep 100000"), "{name}: {listed}");
    }
    shell(&host, "copy-1", "echo mine > /kept");
    assert_eq!(shell(&host, "copy-2", "cat /kept"), "kept\n");
    host.microagent(["delete", "first", "copy-1", "copy-2", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn a_secret_is_in_no_snapshot_and_in_a_fork_only_where_it_is_given() {
    let host = Host::new();
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("value");
    fs::write(&file, VALUE).unwrap();
    let secret = format!("TOKEN=file:{}", file.display());
    let create = ["create", "keeper", "--profile", "tiny", "--secret", &secret, "--image", BUSYBOX];
    host.microagent(create).expect(0);
    host.microagent(["start", "keeper"]).expect(0);
    // What a program has read is in the program's memory, and not what is claimed.
    assert_eq!(shell(&host, "keeper", "stat -c %s /run/secrets/TOKEN"), format!("{}\n", VALUE.len()));
    host.microagent(["snapshot", "create", "keeper", "v1"]).expect(0);
    let mut found = Vec::new();
    holders(host.state(), VALUE.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");

    host.microagent(["snapshot", "fork", "keeper:v1", "--name", "plain"]).expect(0);
    host.microagent(["snapshot", "fork", "keeper:v1", "--name", "trusted", "--with-secrets"]).expect(0);
    assert_eq!(shell(&host, "plain", "ls /run/secrets 2>/dev/null | wc -l"), "0\n");
    for name in ["keeper", "trusted"] {
        assert_eq!(shell(&host, name, "cat /run/secrets/TOKEN"), VALUE, "{name}");
    }
    host.microagent(["delete", "keeper", "plain", "trusted", "--force"]).expect(0);
}

#[test]
fn evidence_is_captured_and_cannot_be_started() {
    let host = Host::new();
    host.microagent(["create", "suspect", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", "suspect"]).expect(0);
    let quarantine = ["quarantine", "suspect", "--reason", "test", "--capture", "--tag", "evidence", "--yes"];
    let report = host.microagent(["--json"].iter().chain(&quarantine)).expect(0).json();
    assert_eq!((&report["state"], &report["capture"]), (&"quarantined".into(), &"evidence".into()));
    let details = host.microagent(["--json", "snapshot", "inspect", "suspect:evidence"]).expect(0).json();
    assert_eq!(details["kind"], "forensic");
    assert!(details["machine"]["memory"][0].is_string(), "{details}");
    let refused = |arguments: &[&str], code: &str| {
        let ran: Ran = host.microagent(["--json"].iter().chain(arguments)).expect(1);
        assert!(ran.stderr.contains(&format!("\"code\":\"{code}\"")), "{arguments:?}: {}", ran.stderr);
    };
    refused(&["snapshot", "fork", "suspect:evidence"], "snapshot_forensic");
    refused(&["create", "new", "--from-snapshot", "suspect:evidence"], "snapshot_forensic");
    refused(&["create", "new", "--from-snapshot", "suspect:evidence", "--disk-only"], "snapshot_forensic");
    refused(&["start", "suspect", "--from-snapshot", "evidence"], "workspace_state");
    host.await_no_engine();
    host.microagent(["delete", "suspect", "--force"]).expect(0);
    host.assert_nothing_left();
}
