//! Looking at workspaces that nobody runs, copying and deleting them: what needs no machine.

use crate::command::Home;
use crate::workspaces::home_with;
use microagent::{Client, Name, Phase};
use serde_json::json;

/// Has somebody run the workspace, as far as anybody can tell, until what is returned is dropped.
fn held(home: &Home, name: &str) -> microagent_state::Workspace {
    let client = Client::open(Some(&home.state_dir())).unwrap();
    let workspace = client.state().acquire(&Name::new(name).unwrap()).unwrap();
    let mut record = workspace.record().unwrap();
    record.phase = Phase::Running;
    workspace.store(&record).unwrap();
    workspace
}

fn note(home: &Home, name: &str, what: &str) {
    let client = Client::open(Some(&home.state_dir())).unwrap();
    let workspace = client.state().acquire(&Name::new(name).unwrap()).unwrap();
    let record = workspace.record().unwrap();
    let cause = microagent::Cause::of("test").because("two\nlines");
    workspace.note(&record, what, cause).unwrap();
}

#[test]
fn events_are_one_line_each_and_following_ends_at_rest() {
    let home = home_with("research", false);
    note(&home, "research", "created");
    note(&home, "research", "applied");
    for line in [&["events", "research"][..], &["events", "research", "--follow"]] {
        let text = home.run(line).expect(0).stdout;
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains(" created ") && lines[0].ends_with(" by test: two lines"), "{text}");
    }
    let json = home.run(&["--json", "events", "research"]).expect(0).json();
    assert_eq!(json["events"][1]["event"], "applied");
    let followed = home.run(&["--json", "events", "research", "-f"]).expect(0).stdout;
    let followed: Vec<serde_json::Value> = followed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(followed), json["events"]);
    assert_eq!(home.run(&["--json", "events", "gone"]).expect(1).json_error()["code"], "workspace_not_found");
}

#[test]
fn followed_logs_come_on_their_own_streams_and_end_at_rest() {
    let home = home_with("research", true);
    let logs = home.run(&["logs", "research", "-f"]).expect(0);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\n", "err\n"));
    let console = home.run(&["logs", "research", "-f", "--only", "console"]).expect(0);
    assert_eq!(console.stdout, "[    0.0] Linux version\n");
    let json = home.run(&["--json", "logs", "research", "-f"]).expect(0).stdout;
    assert_eq!(json, "{\"log\":\"stdout\",\"text\":\"out\\n\"}\n{\"log\":\"stderr\",\"text\":\"err\\n\"}\n");
}

#[test]
fn only_what_runs_is_among_the_processes() {
    let home = home_with("research", true);
    assert_eq!(home.run(&["ps"]).expect(0).stdout, "No workspaces.\n");
    let _running = held(&home, "research");
    let rows = home.run(&["--json", "ps"]).expect(0).json();
    assert_eq!(rows["workspaces"][0]["name"], "research");
}

#[test]
fn a_deletion_that_fails_does_not_keep_the_others_from_it() {
    let home = home_with("running", true);
    let client = Client::open(Some(&home.state_dir())).unwrap();
    let record = client.record(&Name::new("running").unwrap()).unwrap();
    for name in ["locked-up", "other"] {
        let name = Name::new(name).unwrap();
        let workspace = client.state().create(&name).unwrap();
        let phase = if name.as_str() == "other" { Phase::Stopped } else { Phase::Quarantined };
        workspace.store(&microagent::WorkspaceRecord { name, phase, ..record.clone() }).unwrap();
    }
    let line = ["--json", "delete", "locked-up", "gone", "other", "--yes"];
    let deleted = home.run(&line).expect(1).json();
    let rows = deleted["deleted"].as_array().unwrap();
    assert_eq!((&rows[0]["deleted"], &rows[0]["error"]["code"]), (&json!(false), &json!("workspace_state")));
    assert_eq!(rows[1], json!({"workspace": "gone", "deleted": false}));
    assert_eq!(rows[2], json!({"workspace": "other", "deleted": true}));
    let forced = home.run(&["delete", "locked-up", "--force"]).expect(0).stdout;
    assert_eq!(forced, "Deleted: locked-up\n");
}

#[test]
fn status_names_what_is_not_as_it_was() {
    let home = home_with("research", true);
    let client = Client::open(Some(&home.state_dir())).unwrap();
    let workspace = client.state().acquire(&Name::new("research").unwrap()).unwrap();
    let mut record = workspace.record().unwrap();
    record.verification.disk = Some("0123".to_owned());
    workspace.store(&record).unwrap();
    drop(workspace);
    let status = home.run(&["--json", "status", "research"]).expect(0).json();
    let verification = &status["verification"];
    assert_eq!((&verification["ok"], &verification["recorded"]["disk"]), (&json!(false), &json!("0123")));
    let named: Vec<_> =
        verification["divergence"].as_array().unwrap().iter().map(|row| row["artifact"].clone()).collect();
    assert_eq!(named, ["kernel", "base", "disk"], "{verification}");
    assert_eq!(status["rootfs_usage"]["size_mib"], 1024);
    assert!(status.get("readiness").is_none(), "nobody runs it");
    let text = home.run(&["status", "research"]).expect(0).stdout;
    assert!(text.contains("\nVerification: disk was `0123`, and now: it has none\n"), "{text}");
}

#[test]
fn a_copy_that_cannot_be_made_leaves_nothing() {
    let home = home_with("research", true);
    // It has no disk to copy.
    home.run(&["clone", "research", "copy"]).expect(1);
    assert!(!home.state_dir().join("workspaces/copy").exists());
    assert_eq!(home.run(&["--json", "clone", "gone", "copy"]).expect(1).json_error()["code"], "workspace_not_found");
    assert_eq!(
        home.run(&["--json", "clone", "research", "research"]).expect(1).json_error()["code"],
        "workspace_exists"
    );
    let _running = held(&home, "research");
    assert_eq!(home.run(&["--json", "clone", "research", "copy"]).expect(1).json_error()["code"], "workspace_in_use");
}

#[test]
fn a_copy_has_another_name_and_a_history_of_its_own() {
    let home = home_with("research", true);
    let disk = std::fs::File::create(home.state_dir().join("workspaces/research/rootfs.ext4")).unwrap();
    disk.set_len(1 << 30).unwrap();
    let cloned = home.run(&["--json", "clone", "research", "copy"]).expect(0).json();
    assert_eq!((&cloned["workspace"], &cloned["state"]), (&json!("copy"), &json!("prepared")));
    let status = home.run(&["--json", "status", "copy"]).expect(0).json();
    assert_eq!((&status["hostname"], &status["phase"]), (&json!("copy"), &json!("prepared")));
    assert!(status.get("result").is_none() && status.get("session").is_none(), "{status}");
    let events = home.run(&["--json", "events", "copy"]).expect(0).json();
    assert_eq!(events["events"][0]["event"], "cloned");
    assert_eq!(events["events"][0]["reason"], "a copy of `research`");
}

#[test]
fn a_file_changes_what_may_change_and_nothing_else() {
    let home = home_with("research", true);
    let apply = |text: &str, more: &[&str]| {
        std::fs::write(home.path().join("spec.yaml"), text).unwrap();
        let line = [&["--json", "apply", "research", "--file", "spec.yaml"], more].concat();
        let ran: crate::command::Ran = home.command(&line).current_dir(home.path()).output().unwrap().into();
        ran
    };
    let wanted = "restart: always\nservice: serve\nenv: {A: 1}\nresources: {memoryMiB: 1024}\nttl: 90\n";
    let dry = apply(wanted, &["--dry-run"]).expect(0).json();
    assert_eq!((&dry["applied"], &dry["changes"].as_array().unwrap().len()), (&json!(false), &5));
    let status = || home.run(&["--json", "status", "research"]).expect(0).json();
    assert_eq!(status()["restart"], "never");
    let applied = apply(wanted, &[]).expect(0).json();
    assert_eq!((&applied["applied"], &applied["changes"]), (&json!(true), &dry["changes"]));
    let after = status();
    assert_eq!((&after["restart"], &after["ttl_seconds"]), (&json!("always"), &json!(90)));
    assert_eq!(after["service"], json!(["/bin/sh", "-c", "serve"]));
    assert_eq!((&after["env"], &after["resources"]["memory_mib"]), (&json!({"A": "1"}), &json!(1024)));
    assert_eq!(apply(wanted, &[]).expect(0).json()["changes"], json!([]));
    for (text, field) in [
        ("image: busybox\nrestart: never\n", "image"),
        ("setup: new\n", "setup"),
        ("resources: {sizeMiB: 2048}\n", "sizeMiB"),
        ("volumes: [{name: data, mountpoint: /data}]\n", "disks"),
    ] {
        let error = apply(text, &[]).expect(1).json_error();
        assert_eq!(error["code"], "apply_impossible", "{text}");
        assert!(error["message"].as_str().unwrap().starts_with(&format!("cannot apply `{field}`")), "{error}");
    }
    assert_eq!(status()["restart"], "always", "one thing that cannot change, and nothing does");
    let _running = held(&home, "research");
    let error = apply("resources: {cpuCount: 7}\n", &[]).expect(1).json_error();
    assert!(error["message"].as_str().unwrap().contains("is not at rest"), "{error}");
}

#[test]
fn a_unit_names_this_program_and_state_directory_and_is_removed_again() {
    let home = home_with("research", true);
    let path = home.path().join(".config/systemd/user/microagent-supervise-research.service");
    let report = home.run(&["--json", "supervise", "research", "--install"]).expect(0).json();
    assert_eq!(report["path"], json!(path));
    let unit = std::fs::read_to_string(&path).unwrap();
    let start = format!(
        "ExecStart=\"{}\" --state-dir \"{}\" supervise research --max-restarts 0",
        env!("CARGO_BIN_EXE_microagent"),
        home.state_dir().display()
    );
    assert!(unit.lines().any(|line| line == start), "{unit}");
    home.run(&["supervise", "research", "--uninstall"]).expect(0);
    assert!(!path.exists());
    home.run(&["supervise", "research", "--uninstall"]).expect(0);
    assert_eq!(
        home.run(&["--json", "supervise", "gone", "--install"]).expect(1).json_error()["code"],
        "workspace_not_found"
    );
}
