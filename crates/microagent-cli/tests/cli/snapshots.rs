//! Snapshots of workspaces at rest, which need no machine, and every mistake that can be made with snapshots.

use crate::command::Home;
use crate::workspaces::home_with;
use microagent::{Client, Name, Phase};

/// A home with a workspace at rest whose disk holds `content`.
fn home_with_disk(content: &str) -> Home {
    let home = home_with("research", false);
    let base = home.path().join("base.erofs");
    std::fs::write(&base, "base").unwrap();
    change(&home, |record| record.base_path = base);
    write_disk(&home, "research", content);
    home
}

fn client(home: &Home) -> Client {
    Client::open(Some(&home.state_dir())).unwrap()
}

/// Changes the record of the workspace.
fn change(home: &Home, change: impl FnOnce(&mut microagent::WorkspaceRecord)) {
    let workspace = client(home).state().acquire(&Name::new("research").unwrap()).unwrap();
    let mut record = workspace.record().unwrap();
    change(&mut record);
    workspace.store(&record).unwrap();
}

fn disk(home: &Home, name: &str) -> std::path::PathBuf {
    client(home).state().find(&Name::new(name).unwrap()).unwrap().disk()
}

fn write_disk(home: &Home, name: &str, content: &str) {
    // A disk is a whole number of blocks.
    let mut bytes = content.as_bytes().to_vec();
    bytes.resize(1 << 20, 0);
    std::fs::write(disk(home, name), bytes).unwrap();
}

#[track_caller]
fn assert_disk(home: &Home, name: &str, content: &str) {
    let bytes = std::fs::read(disk(home, name)).unwrap();
    assert!(bytes.starts_with(content.as_bytes()), "{:?}", String::from_utf8_lossy(&bytes[..16]));
}

#[test]
fn the_disks_of_a_workspace_at_rest_are_kept_and_given_back() {
    let home = home_with_disk("first");
    let taken = home.run(&["snapshot", "create", "research", "v1", "--comment", "as it was"]).expect(0).stdout;
    assert!(taken.starts_with("Snapshot: research:v1\nKind: disk\nTakes: "), "{taken}");
    write_disk(&home, "research", "second");
    let second = home.run(&["--json", "snapshot", "create", "research", "--tag", "v2"]).expect(0).json();
    assert_eq!((&second["tag"], &second["kind"], &second["pause_ms"]), (&"v2".into(), &"disk".into(), &().into()));
    assert!(second["shared_bytes"].as_u64().unwrap() > 0, "the second is laid upon the first: {second}");

    let listed = home.run(&["snapshot", "list", "research"]).expect(0).stdout;
    let rows: Vec<_> = listed.lines().collect();
    assert!(rows[0].starts_with("TAG   KIND   CREATED ") && rows[1].starts_with("v1    disk   20"), "{listed}");
    assert!(rows[1].trim_end().ends_with("as it was") && rows[2].starts_with("v2 "), "{listed}");
    let inspected = home.run(&["snapshot", "inspect", "research:v1"]).expect(0).stdout;
    assert!(inspected.contains("\nComment: as it was\nDisk: workspace (1.0 MB)\n"), "{inspected}");

    let restored = home.run(&["snapshot", "restore", "research", "v1", "--yes"]).expect(0).stdout;
    assert_eq!(restored, "Workspace: research\nState: stopped\nFrom: research:v1\n");
    assert_disk(&home, "research", "first");
    let status = home.run(&["status", "research"]).expect(0).stdout;
    assert!(status.contains("\nFrom: research:v1\n"), "{status}");
    let events = home.run(&["events", "research"]).expect(0).stdout;
    assert!(events.contains("restored") && events.contains("the disks of snapshot `research:v1`"), "{events}");

    assert_eq!(home.run(&["snapshot", "rm", "research:v1", "--yes"]).expect(0).stdout, "Deleted: research:v1\n");
    // What the second shares with the first is still there.
    home.run(&["snapshot", "restore", "research:v2", "--disk-only", "--yes"]).expect(0);
    assert_disk(&home, "research", "second");
}

#[test]
fn workspaces_are_made_of_a_snapshot_of_disks_and_not_started() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    let forks = home.run(&["--json", "snapshot", "fork", "research:v1", "--count", "2"]).expect(0).json();
    let names = forks["forks"].as_array().unwrap().iter().map(|fork| fork["workspace"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["research-fork-1", "research-fork-2"]);
    let table = home.run(&["snapshot", "fork", "research:v1", "--count", "2", "--name", "w"]).expect(0).stdout;
    assert_eq!(table, "WORKSPACE   STATE      READY\nw-1         prepared\nw-2         prepared\n");
    home.run(&["snapshot", "fork", "research:v1", "--name", "one"]).expect(0);
    let made = home.run(&["create", "two", "--from-snapshot", "research:v1", "-p", "8080:80"]).expect(0).stdout;
    assert_eq!(made, "Workspace: two\nState: prepared\nFrom: research:v1\n");
    for name in ["research-fork-2", "w-2", "one", "two"] {
        assert_disk(&home, name, "first");
        let record = client(&home).record(&Name::new(name).unwrap()).unwrap();
        assert_eq!((record.phase, record.disposable), (Phase::Prepared, false), "{name}");
        assert_eq!(record.origin.unwrap().to_string(), "research:v1");
    }
    let status = home.run(&["--json", "status", "two"]).expect(0).json();
    assert_eq!((&status["origin"], &status["forwards"][0]["host_port"]), (&"research:v1".into(), &8080.into()));

    // What they came from may go.
    home.run(&["delete", "research", "--yes"]).expect(0);
    write_disk(&home, "one", "its own");
    home.run(&["snapshot", "create", "one", "v1"]).expect(0);
    assert_eq!(home.run(&["--json", "snapshot", "inspect", "one:v1"]).expect(0).json()["ancestry"], "research:v1");
}

#[test]
fn names_that_are_taken_make_no_fork_at_all() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    home.run(&["snapshot", "fork", "research:v1", "--name", "w-2"]).expect(0);
    let fork = ["--json", "snapshot", "fork", "research:v1", "--count", "3", "--name", "w"];
    assert_eq!(home.run(&fork).expect(1).json_error()["code"], "workspace_exists");
    assert_eq!(client(&home).state().names().unwrap().len(), 2);
}

#[test]
fn mistakes_with_snapshots_have_codes() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    let cases: [(&[&str], i32, &str); 20] = [
        (&["create", "research", "v1"], 1, "snapshot_exists"),
        (&["create", "research", ".."], 2, "snapshot_tag_invalid"),
        (&["create", "research", "a", "--tag", "b"], 2, "usage"),
        (&["create", "other", "v1"], 1, "workspace_not_found"),
        (&["create", "../research"], 2, "workspace_name_invalid"),
        (&["list", "other"], 1, "workspace_not_found"),
        (&["inspect", "research", "v2"], 1, "snapshot_not_found"),
        (&["inspect", "research"], 2, "usage"),
        (&["inspect", "research:../v1"], 2, "snapshot_tag_invalid"),
        (&["delete", "research", "v2", "--yes"], 1, "snapshot_not_found"),
        (&["delete", "research", "v1"], 2, "confirmation_needed"),
        (&["restore", "research", "v1"], 2, "confirmation_needed"),
        (&["restore", "research", "v2"], 1, "snapshot_not_found"),
        (&["restore", "other:v1", "--yes"], 1, "workspace_not_found"),
        (&["fork", "research"], 2, "snapshot_reference_invalid"),
        (&["fork", "research:v2"], 1, "snapshot_not_found"),
        (&["fork", "research:v1", "--count", "0"], 2, "option_invalid"),
        (&["fork", "research:v1", "--count", "1001"], 2, "option_invalid"),
        (&["fork", "research:v1", "--count", "2", "-p", "8080:80"], 2, "option_invalid"),
        (&["fork", "research:v1", "--name", "../w"], 2, "workspace_name_invalid"),
    ];
    for (arguments, status, code) in cases {
        let error = home.run(&[&["--json", "snapshot"], arguments].concat()).expect(status).json_error();
        assert_eq!(error["code"], code, "{arguments:?}: {error}");
    }
    assert_eq!(client(&home).state().names().unwrap().len(), 1);
    assert_eq!(home.run(&["snapshot", "list", "research"]).expect(0).stdout.lines().count(), 2);
}

#[test]
fn a_start_goes_on_from_a_snapshot_of_the_workspace_alone() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    home.run(&["snapshot", "fork", "research:v1", "--name", "other"]).expect(0);
    let error = home.run(&["--json", "start", "other", "--from-snapshot", "research:v1"]).expect(2).json_error();
    assert_eq!(error["code"], "option_invalid");
    assert!(error["message"].as_str().unwrap().contains("microagent snapshot fork research:v1"), "{error}");
    let error = home.run(&["--json", "start", "other", "--from-snapshot", ".."]).expect(2).json_error();
    assert_eq!(error["code"], "snapshot_tag_invalid");
    let error = home.run(&["--json", "start", "research", "--from-snapshot", "v2"]).expect(1).json_error();
    assert_eq!(error["code"], "snapshot_not_found");
    let record = client(&home).record(&Name::new("research").unwrap()).unwrap();
    assert_eq!(record.phase, Phase::Stopped, "a start that cannot be changes nothing");
}

#[test]
fn what_a_snapshot_decides_cannot_be_given_with_it() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    let cases: [(&[&str], &str); 12] = [
        (&["--image", "alpine"], "--image"),
        (&["--rootfs", "/tmp/x"], "--rootfs"),
        (&["--memory", "256"], "--memory"),
        (&["--size-mib", "4g"], "--size-mib"),
        (&["--json", "-"], "--json"),
        (&["-e", "KEY=value"], "--env"),
        (&["--setup", "true"], "--setup"),
        (&["--secret", "A=env:A"], "--secret"),
        (&["-v", "data:/data"], "--volume"),
        (&["--network", "isolated"], "--network"),
        (&["--service-command", "true"], "--service-command"),
        (&["--dry-run"], "--dry-run"),
    ];
    for (flags, named) in cases {
        let line = [&["--json", "create", "new", "--from-snapshot", "research:v1"], flags].concat();
        let error = home.run(&line).expect(2).json_error();
        let expected = format!("`{named}` cannot be given with `--from-snapshot`: the snapshot decides it");
        assert_eq!((&error["code"], &error["message"]), (&"usage".into(), &expected.into()), "{flags:?}");
    }
    for alone in ["--disk-only", "--with-secrets"] {
        home.run(&["create", "new", alone]).expect(2);
    }
    assert_eq!(client(&home).state().names().unwrap().len(), 1);
}

#[test]
fn a_damaged_snapshot_is_listed_refused_and_can_be_deleted() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    let manifest = home.state_dir().join("workspaces/research/snapshots/v1/snapshot.json");
    std::fs::write(&manifest, "{").unwrap();
    let listed = home.run(&["snapshot", "list", "research"]).expect(0).stdout;
    assert!(listed.contains("v1    unusable ") && listed.contains("is damaged"), "{listed}");
    let error = home.run(&["--json", "snapshot", "restore", "research", "v1", "--yes"]).expect(1).json_error();
    assert_eq!(error["code"], "snapshot_damaged");
    // What it needs is not known, so nothing is removed.
    let error = home.run(&["--json", "image", "prune", "--all"]).expect(1).json_error();
    assert_eq!(error["code"], "snapshot_damaged");
    home.run(&["snapshot", "delete", "research", "v1", "--yes"]).expect(0);
    assert_eq!(home.run(&["snapshot", "ls", "research"]).expect(0).stdout, "No snapshots.\n");
}

#[test]
fn evidence_is_kept_and_nothing_goes_on_from_it() {
    let home = home_with_disk("first");
    let quarantine =
        ["--json", "quarantine", "research", "--reason", "test", "--capture", "--tag", "evidence", "--yes"];
    let report = home.run(&quarantine).expect(0).json();
    assert_eq!((&report["state"], &report["capture"]), (&"quarantined".into(), &"evidence".into()));
    let listed = home.run(&["--json", "snapshot", "list", "research"]).expect(0).json();
    assert_eq!(listed["snapshots"][0]["kind"], "forensic");
    let attempts: [&[&str]; 3] = [
        &["snapshot", "fork", "research:evidence"],
        &["create", "new", "--from-snapshot", "research:evidence"],
        &["create", "new", "--from-snapshot", "research:evidence", "--disk-only"],
    ];
    for attempt in attempts {
        let error = home.run(&[&["--json"], attempt].concat()).expect(1).json_error();
        assert_eq!(error["code"], "snapshot_forensic", "{attempt:?}");
    }
    let error = home.run(&["--json", "snapshot", "restore", "research:evidence", "--yes"]).expect(1).json_error();
    assert_eq!(error["code"], "workspace_state");

    // What could be given another name is not lost for that.
    let error = home.run(&quarantine).expect(1).json_error();
    assert_eq!(error["code"], "snapshot_exists");
    let status = home.run(&["--json", "status", "research"]).expect(0).json();
    assert_eq!(status["phase"], "quarantined");
    let deleted = home.run(&["delete", "research", "--force"]).expect(0).stdout;
    assert_eq!(deleted, "Deleted: research, and a snapshot\n");
}

#[test]
fn what_snapshots_take_is_counted_and_goes_with_them() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    let usage = home.run(&["--json", "df"]).expect(0).json();
    assert_eq!((&usage["snapshots"]["count"], &usage["snapshot_memory"]["count"]), (&1.into(), &0.into()));
    assert!(usage["snapshots"]["bytes"].as_u64().unwrap() > 0);
    let text = home.run(&["df"]).expect(0).stdout;
    assert!(text.lines().any(|line| line.starts_with("snapshots    disk     1")), "{text}");
    let layers = home.state_dir().join("layers");
    let count = || std::fs::read_dir(&layers).unwrap().filter(|entry| !hidden(entry.as_ref().unwrap())).count();
    assert_eq!(count(), 1);
    home.run(&["gc"]).expect(0);
    assert_eq!(count(), 1, "what a snapshot needs is no garbage");
    home.run(&["delete", "research", "--yes"]).expect(0);
    assert_eq!(count(), 0);
    std::fs::write(layers.join("0".repeat(64)), "nobody's").unwrap();
    let cleared = home.run(&["gc"]).expect(0).stdout;
    assert!(cleared.starts_with("Removed: layers of snapshots: 1 in "), "{cleared}");
}

fn hidden(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

#[test]
fn references_complete_to_snapshots_that_exist() {
    let home = home_with_disk("first");
    home.run(&["snapshot", "create", "research", "v1"]).expect(0);
    for line in [&["snapshot", "fork", ""][..], &["snapshot", "inspect", ""], &["create", "--from-snapshot", ""]] {
        let index = line.len().to_string();
        let completed = home.run_with(
            &[&["--", "microagent"], line].concat(),
            &[("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", &index), ("_CLAP_IFS", "\n")],
        );
        assert!(completed.stdout.lines().any(|found| found == "research:v1"), "{line:?}: {}", completed.stdout);
    }
}
