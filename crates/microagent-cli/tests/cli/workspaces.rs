//! The verbs that look at what a run left, on workspaces written by the library.

use crate::command::Home;
use jiff::Timestamp;
use microagent::{Client, Name, ResultRecord, WorkspaceRecord};
use microagent_state::Record;

/// What has to be in a record; the rest has defaults.
fn record(name: &Name) -> WorkspaceRecord {
    let record = serde_json::json!({
        "name": name,
        "created_at": Timestamp::UNIX_EPOCH,
        "updated_at": Timestamp::UNIX_EPOCH,
        "phase": "stopped",
        "disposable": false,
        "image": "docker.io/library/alpine:3.20",
        "image_digest": format!("sha256:{}", "0".repeat(64)),
        "base_path": "/base",
        "kernel_path": "/vmlinux",
        "backend": "linux-tcg",
        "engine": "qemu",
        "profile": "small",
        "resources": {"memory_mib": 512, "cpu_count": 2, "size_mib": 1024},
        "network": "isolated",
        "restart": "never",
        "hostname": "research",
        "shell": "/bin/sh",
        "env": {},
        "setup": [],
        "command": ["uname"],
        "workdir": "/",
        "user": "",
    });
    serde_json::from_value(record).unwrap()
}

/// A home with a stopped workspace in it, whose command has ended if `ended`.
pub(crate) fn home_with(name: &str, ended: bool) -> Home {
    let home = Home::new();
    let client = Client::open(Some(&home.state_dir())).unwrap();
    let name = Name::new(name).unwrap();
    let workspace = client.state().create(&name).unwrap();
    if ended {
        let result = ResultRecord {
            started_at: Timestamp::UNIX_EPOCH,
            exited_at: Timestamp::UNIX_EPOCH,
            exit_code: 137,
            signal: Some(9),
            out_of_memory: false,
            stdout: "out\n".to_owned(),
            stderr: "err\n".to_owned(),
            stdout_truncated: false,
            stderr_truncated: false,
        };
        result.store(workspace.path()).unwrap();
        workspace.store_output("out\n", "err\n").unwrap();
        std::fs::write(workspace.serial_log(), "[    0.0] Linux version\n").unwrap();
    }
    workspace.store(&record(&name)).unwrap();
    home
}

#[test]
fn an_empty_list_says_so() {
    assert_eq!(Home::new().run(&["list"]).expect(0).stdout, "No workspaces.\n");
    assert_eq!(Home::new().run(&["--json", "ls"]).expect(0).json(), serde_json::json!({ "workspaces": [] }));
}

#[test]
fn a_list_is_a_table_of_fixed_columns_where_nobody_watches() {
    let listed = home_with("research", true).run(&["list"]).expect(0).stdout;
    let expected = "\
NAME       STATE     BACKEND     PROFILE   NETWORK    RESTART   IMAGE
research   stopped   linux-tcg   small     isolated   never     docker.io/library/alpine:3.20
";
    assert_eq!(listed, expected);
}

#[test]
fn status_logs_and_result_tell_what_became_of_it() {
    let home = home_with("research", true);
    let status = home.run(&["inspect", "research"]).expect(0).stdout;
    for line in ["Workspace: research", "State: stopped", "Exit code: 137"] {
        assert!(status.lines().any(|found| found == line), "{line}: {status}");
    }
    assert_eq!(home.run(&["--json", "status", "research"]).expect(0).json()["result"]["exit_code"], 137);

    let logs = home.run(&["logs", "research"]).expect(0).stdout;
    assert_eq!(logs, "==> console <==\n[    0.0] Linux version\n==> stdout <==\nout\n==> stderr <==\nerr\n");
    assert_eq!(home.run(&["logs", "research", "--only", "stderr"]).expect(0).stdout, "err\n");
    let json = home.run(&["--json", "logs", "research"]).expect(0).json();
    assert_eq!((&json["logs"], &json["stdout"]), (&"[    0.0] Linux version\n".into(), &"out\n".into()));

    let result = home.run(&["result", "research"]).expect(0).stdout;
    assert!(result.starts_with("Exit code: 137 (signal 9)\n"), "{result}");
    assert_eq!(home.run(&["--json", "result", "research"]).expect(0).json()["signal"], 9);
}

#[test]
fn a_workspace_without_a_result_says_so() {
    let error = home_with("research", false).run(&["--json", "result", "research"]).expect(1).json_error();
    assert_eq!((&error["code"], &error["kind"]), (&"result_missing".into(), &"not_found".into()));
}

#[test]
fn deleting_needs_a_yes_and_is_done_once() {
    let home = home_with("research", true);
    let error = home.run(&["--json", "delete", "research"]).expect(2).json_error();
    assert_eq!(error["code"], "confirmation_needed");
    assert!(home.state_dir().join("workspaces/research").exists());
    let deleted = home.run(&["rm", "research", "other", "--yes"]).expect(0).stdout;
    assert_eq!(deleted, "Deleted: research\nNot there: other\n");
    assert!(!home.state_dir().join("workspaces/research").exists());
    let again = home.run(&["--json", "delete", "research", "--yes"]).expect(0).json();
    assert_eq!(again, serde_json::json!({ "deleted": [{ "workspace": "research", "deleted": false }] }));
}

#[test]
fn a_wrong_name_deletes_nothing_at_all() {
    let home = home_with("research", true);
    home.run(&["delete", "research", "../other", "--yes"]).expect(2);
    assert!(home.state_dir().join("workspaces/research").exists());
}

#[test]
fn an_image_a_workspace_needs_is_not_pruned_blindly() {
    let home = home_with("research", true);
    std::fs::write(home.state_dir().join("workspaces/research/workspace.json"), "{").unwrap();
    let error = home.run(&["--json", "image", "prune", "--all"]).expect(1).json_error();
    assert_eq!(error["code"], "record_invalid");
}

#[test]
fn names_complete_to_workspaces_that_exist() {
    let home = home_with("research", true);
    for verb in ["status", "start", "events", "logs", "clone", "apply", "supervise", "delete"] {
        let completed = home.run_with(
            &["--", "microagent", verb, ""],
            &[("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "2"), ("_CLAP_IFS", "\n")],
        );
        assert!(completed.stdout.lines().any(|line| line == "research"), "{verb}: {}", completed.stdout);
    }
}
