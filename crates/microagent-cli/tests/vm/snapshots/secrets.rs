//! Secrets do not get into snapshots, nor from one workspace into another.

use super::{counting, shell};
use crate::host::{CLIENTS, Host};
use crate::secrets::holders;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const VALUE: &str = "a-s3cret-th4t-no-snapsh0t-has";
/// Another, that is asked for.
const ASKED: &str = "a-s3cret-th4t-1s-only-asked-for";

/// Files of captures of this state directory on tmpfs, which hold memory of guests and engines.
fn captures(state: &Path) -> Vec<PathBuf> {
    let directory = format!("/dev/shm/microagent-{}", rustix::process::geteuid().as_raw());
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let state = state.to_str().unwrap();
    let ours = entries.filter(|path| {
        path.extension().is_some_and(|ending| ending == "json")
            && fs::read_to_string(path).is_ok_and(|owner| owner.contains(state))
    });
    ours.map(|owner| owner.with_extension("")).collect()
}

/// Fails if a value is in any file of the state directory, or in the memory of what machines are restored from.
#[track_caller]
fn assert_nowhere(host: &Host, value: &str) {
    let mut found = Vec::new();
    holders(host.state(), value.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");
    let memory = captures(host.state());
    assert!(memory.len() > 1, "the memory of the machine and of its engine is on tmpfs: {memory:?}");
    for file in memory {
        let bytes = fs::read(&file).unwrap();
        assert!(memchr::memmem::find(&bytes, value.as_bytes()).is_none(), "{}", file.display());
    }
}

#[test]
fn a_snapshot_has_no_secret_and_a_copy_is_given_those_it_is_granted() {
    let host = Host::new();
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("value");
    fs::write(&file, VALUE).unwrap();
    let secret = format!("TOKEN=file:{}", file.display());
    counting(&host, "box", &["--secret", &secret]);
    let read = "cat /run/secrets/TOKEN 2>/dev/null || echo none";
    assert_eq!(shell(&host, "box", read), VALUE);
    host.microagent(["snapshot", "create", "box", "clean"]).expect(0);
    assert_eq!(shell(&host, "box", read), VALUE, "the workspace has it again");

    assert_nowhere(&host, VALUE);

    host.microagent(["snapshot", "fork", "box:clean", "--name", "stranger"]).expect(0);
    assert_eq!(shell(&host, "stranger", read), "none\n");
    host.microagent(["snapshot", "fork", "box:clean", "--name", "trusted", "--with-secrets"]).expect(0);
    assert_eq!(shell(&host, "trusted", read), VALUE);
    host.microagent(["kill", "box", "--reason", "to go back", "--yes"]).expect(0);
    host.microagent(["snapshot", "restore", "box", "clean", "--yes"]).expect(0);
    assert_eq!(shell(&host, "box", read), VALUE, "its own secrets are its own");
    host.microagent(["delete", "box", "stranger", "trusted", "--force"]).expect(0);
}

#[test]
fn a_secret_on_demand_is_in_no_snapshot_and_denied_to_copies_that_are_not_granted_it() {
    let host = Host::new();
    host.import_clients();
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("value");
    fs::write(&file, ASKED).unwrap();
    let demand = format!("TOKEN=file:{}", file.display());
    let create = ["create", "asker", "--image", CLIENTS, "--profile", "tiny", "--secret-on-demand", &demand];
    host.microagent(create).expect(0);
    host.microagent(["start", "asker"]).expect(0);
    let ask = "curl -s --unix-socket /run/microagent/secrets.sock http://secrets/TOKEN";
    assert_eq!(shell(&host, "asker", ask), ASKED);
    host.microagent(["snapshot", "create", "asker", "asked"]).expect(0);
    assert_nowhere(&host, ASKED);
    assert_eq!(shell(&host, "asker", ask), ASKED);
    host.microagent(["snapshot", "fork", "asker:asked", "--name", "stranger"]).expect(0);
    assert_eq!(shell(&host, "stranger", ask), "no secret of that name is declared\n");
    host.microagent(["snapshot", "fork", "asker:asked", "--name", "trusted", "--with-secrets"]).expect(0);
    assert_eq!(shell(&host, "trusted", ask), ASKED);
    host.microagent(["delete", "asker", "stranger", "trusted", "--force"]).expect(0);
}

#[test]
fn evidence_is_kept_as_it_is_and_never_started() {
    let host = Host::new();
    counting(&host, "box", &[]);
    let reason = ["quarantine", "box", "--reason", "reads what it should not", "--capture", "--yes"];
    let report = host.microagent(["--json"].iter().chain(&reason)).expect(0).json();
    assert_eq!(host.microagent(["--json", "status", "box"]).expect(0).json()["phase"], "quarantined");
    let list = host.microagent(["--json", "snapshot", "list", "box"]).expect(0).text();
    assert!(list.contains(r#""kind":"forensic""#) || list.contains(r#""kind": "forensic""#), "{report}: {list}");
    let snapshots: serde_json::Value = serde_json::from_str(&list).unwrap();
    let rows = snapshots.as_array().cloned().unwrap_or_else(|| snapshots["snapshots"].as_array().unwrap().clone());
    let tag = rows[0]["tag"].as_str().unwrap().to_owned();
    let refused = host.microagent(["--json", "snapshot", "fork", &format!("box:{tag}"), "--name", "never"]).expect(1);
    assert!(refused.stderr.contains("snapshot_forensic"), "{}", refused.stderr);
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn a_workspace_is_out_of_service_whatever_becomes_of_who_asked_for_evidence() {
    /// What is only ever reached by a defect.
    const DEADLINE: Duration = Duration::from_mins(2);
    let host = Host::new();
    host.microagent(["volume", "create", "data", "--size-mib", "16"]).expect(0);
    // What it writes to does not matter: nothing goes on from evidence.
    counting(&host, "box", &["-v", "data:/data"]);
    let state = || host.microagent(["--json", "status", "box"]).expect(0).json()["phase"].as_str().unwrap().to_owned();
    let quarantine = ["quarantine", "box", "--reason", "it is strange", "--capture", "--tag", "evidence", "--yes"];
    let mut asking = host.command(quarantine).spawn().unwrap();
    let end = Instant::now() + DEADLINE;
    while state() == "running" {
        assert!(Instant::now() < end, "nothing happens");
    }
    asking.kill().unwrap();
    asking.wait().unwrap();
    while state() != "quarantined" {
        assert!(Instant::now() < end, "it is {}", state());
    }
    let listed = host.microagent(["snapshot", "list", "box"]).expect(0).text();
    assert!(listed.contains("evidence") && listed.contains("forensic"), "{listed}");
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.await_no_engine();
}
