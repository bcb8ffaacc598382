//! What cannot be, and says why.

use super::{counting, kill, shell};
use crate::host::{BUSYBOX, Host};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

#[track_caller]
fn refused(host: &Host, arguments: &[&str], code: &str) {
    let ran = host.microagent(["--json"].iter().chain(arguments)).expect(1);
    assert!(ran.stderr.contains(&format!("\"{code}\"")), "{code}: {}", ran.stderr);
}

fn manifest(host: &Host) -> PathBuf {
    host.state().join("workspaces/box/snapshots/one/snapshot.json")
}

fn change(file: &Path, act: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    act(&mut value);
    fs::write(file, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_harms_nothing() {
    let host = Host::new();
    counting(&host, "box", &[]);
    shell(&host, "box", "echo kept > /kept; sync");
    host.microagent(["snapshot", "create", "box", "one"]).expect(0);
    refused(&host, &["snapshot", "create", "box", "one"], "snapshot_exists");
    refused(&host, &["snapshot", "create", "nobody"], "workspace_not_found");
    refused(&host, &["snapshot", "fork", "box:two"], "snapshot_not_found");
    // The disk is in use.
    refused(&host, &["snapshot", "restore", "box", "one", "--yes"], "workspace_state");
    kill(&host, "box");

    let good = fs::read(manifest(&host)).unwrap();
    let restore = ["snapshot", "restore", "box", "one", "--yes"];
    for (what, with) in [("engine_version", "1.0"), ("backend", "linux-kvm"), ("program", "null"), ("arguments", "x")] {
        change(&manifest(&host), |manifest| {
            manifest["record"]["machine"]["shape"]["hardware"][what] =
                serde_json::from_str(with).unwrap_or_else(|_| serde_json::Value::from(with));
        });
        refused(&host, &restore, "snapshot_incompatible");
        fs::write(manifest(&host), &good).unwrap();
    }
    change(&manifest(&host), |manifest| manifest["record"]["machine"]["shape"]["kernel"] = "another".into());
    refused(&host, &restore, "snapshot_incompatible");
    fs::write(manifest(&host), &good).unwrap();
    change(&manifest(&host), |manifest| manifest["version"] = 99.into());
    refused(&host, &restore, "snapshot_newer");
    fs::write(manifest(&host), b"{").unwrap();
    refused(&host, &restore, "snapshot_damaged");
    fs::write(manifest(&host), &good).unwrap();
    let state = host.state().join("workspaces/box/snapshots/one/state");
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    refused(&host, &restore, "snapshot_damaged");
    // Its disks are as good as ever.
    host.microagent(["create", "disks", "--from-snapshot", "box:one", "--disk-only"]).expect(0);
    host.microagent(["delete", "disks", "--force"]).expect(0);
    fs::write(&state, whole).unwrap();

    // After all that the workspace is what it was, and the snapshot still good.
    assert_eq!(host.microagent(["--json", "status", "box"]).expect(0).json()["phase"], "stopped");
    host.microagent(["start", "box"]).expect(0);
    assert_eq!(shell(&host, "box", "cat /kept"), "kept\n");
    kill(&host, "box");
    host.microagent(restore).expect(0);
    kill(&host, "box");

    // A layer that is damaged is found out when it is read: the capture is gone.
    host.microagent(["template", "prune", "--all"]).expect(0);
    let layers = host.state().join("layers");
    for layer in fs::read_dir(&layers).unwrap().flatten().filter(|layer| layer.file_name() != ".lock") {
        let mut bytes = fs::read(layer.path()).unwrap();
        let end = bytes.len() - 100;
        bytes[end] ^= 1;
        fs::write(layer.path(), bytes).unwrap();
    }
    refused(&host, &restore, "snapshot_layer_damaged");
    host.microagent(["start", "box"]).expect(0);
    assert_eq!(shell(&host, "box", "cat /kept"), "kept\n", "its own disk is what it was");
    host.microagent(["delete", "box", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn a_disk_that_is_not_the_workspaces_own_keeps_it_from_being_written_down_while_it_runs() {
    let host = Host::new();
    host.microagent(["volume", "create", "cache", "--size-mib", "16"]).expect(0);
    let create = ["create", "box", "--image", BUSYBOX, "--profile", "tiny", "--volume", "cache:/cache"];
    host.microagent(create).expect(0);
    host.microagent(["start", "box"]).expect(0);
    refused(&host, &["snapshot", "create", "box"], "snapshot_disk");
    shell(&host, "box", "echo fine > /cache/fine");
    host.microagent(["halt", "box"]).expect(0);
    host.microagent(["snapshot", "create", "box", "disk"]).expect(0);
    // The volume is not part of it, and belongs to one workspace at a time.
    host.microagent(["create", "other", "--from-snapshot", "box:disk"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    let taken = host.microagent(["--json", "start", "other"]).expect(1);
    assert!(taken.stderr.contains("volume"), "{}", taken.stderr);
    host.microagent(["delete", "box", "other", "--force"]).expect(0);
}

#[test]
fn a_guest_that_never_falls_quiet_can_be_killed_all_the_while() {
    /// Freezes the guest agent, and with it whatever it is asked.
    const FREEZE: &str = "mkdir /frozen && mount -t cgroup2 none /frozen && mkdir /frozen/agent && \
                          echo 1 > /frozen/agent/cgroup.procs && echo 1 > /frozen/agent/cgroup.freeze";
    /// After this long a snapshot is one that waits for the guest. Where it is one of a slow host, it is ended in the middle.
    const PATIENCE: Duration = Duration::from_secs(3);
    for (how, state) in [("kill", "stopped"), ("quarantine", "quarantined")] {
        let host = Host::new();
        counting(&host, "box", &[]);
        host.microagent(["exec", "box", "--detach", "--", "sh", "-c", &format!("sleep 1; {FREEZE}")]).expect(0);
        let waiting = loop {
            let mut command = host.command(["--json", "snapshot", "create", "box"]);
            let mut taking = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(PATIENCE);
            match taking.try_wait().unwrap() {
                // It was asked before it was frozen.
                Some(status) => assert!(status.success()),
                None => break taking,
            }
        };
        host.microagent([how, "box", "--reason", "it does not answer", "--yes"]).expect(0);
        let refused = waiting.wait_with_output().unwrap();
        let why = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && why.contains("\"guest_lost\""), "{why}");
        assert_eq!(host.microagent(["--json", "status", "box"]).expect(0).json()["phase"], state);
    }
}

#[test]
fn a_start_from_disks_that_cannot_be_leaves_the_disk_as_it_is() {
    let host = Host::new();
    host.microagent(["volume", "create", "data", "--size-mib", "16"]).expect(0);
    counting(&host, "box", &["-v", "data:/data"]);
    shell(&host, "box", "echo then > /file");
    host.microagent(["halt", "box"]).expect(0);
    host.microagent(["snapshot", "create", "box", "rest"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    shell(&host, "box", "echo later > /file");
    host.microagent(["halt", "box"]).expect(0);
    counting(&host, "other", &["-v", "data:/data"]);
    refused(&host, &["start", "box", "--from-snapshot", "rest"], "volume_in_use");
    assert_eq!(host.microagent(["--json", "status", "box"]).expect(0).json()["phase"], "halted");
    host.microagent(["delete", "other", "--force"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    assert_eq!(shell(&host, "box", "cat /file"), "later\n");
    host.microagent(["halt", "box"]).expect(0);
    host.microagent(["start", "box", "--from-snapshot", "rest"]).expect(0);
    assert_eq!(shell(&host, "box", "cat /file"), "then\n");
    host.microagent(["delete", "box", "--force"]).expect(0);
}

#[test]
fn a_pause_that_cannot_be_recorded_is_none() {
    let host = Host::new();
    counting(&host, "box", &[]);
    let events = host.state().join("workspaces/box/events.jsonl");
    let kept = events.with_extension("kept");
    fs::rename(&events, &kept).unwrap();
    fs::create_dir(&events).unwrap();
    host.microagent(["pause", "box"]).expect(1);
    fs::remove_dir(&events).unwrap();
    fs::rename(&kept, &events).unwrap();
    assert_eq!(host.microagent(["--json", "status", "box"]).expect(0).json()["phase"], "running");
    assert_eq!(shell(&host, "box", "echo goes on"), "goes on\n");
    host.microagent(["pause", "box"]).expect(0);
    host.microagent(["resume", "box"]).expect(0);
    host.microagent(["delete", "box", "--force"]).expect(0);
}
