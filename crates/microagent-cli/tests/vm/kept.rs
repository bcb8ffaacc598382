//! What `--keep` keeps.

use crate::host::{BUSYBOX, Host};
use microagent_testing::{run, tool};

#[test]
fn a_kept_run_can_be_looked_at_and_removed() {
    let host = Host::new();
    host.microagent([
        "run",
        "--keep",
        "--name",
        "report-run",
        "--profile",
        "tiny",
        "--image",
        BUSYBOX,
        "--exec",
        "mkdir -p /workspace && echo 'artifact content' > /workspace/report.txt; echo said",
    ])
    .expect(0);
    let list = host.microagent(["--json", "list"]).expect(0).json();
    assert_eq!(list["workspaces"][0]["name"], "report-run");
    assert_eq!(list["workspaces"][0]["state"], "stopped");
    let status = host.microagent(["--json", "status", "report-run"]).expect(0).json();
    assert_eq!(status["profile"], "tiny");
    let result = host.microagent(["--json", "result", "report-run"]).expect(0).json();
    assert_eq!(result["stdout"], "said\n");
    assert!(host.microagent(["logs", "report-run"]).expect(0).text().contains("said"));

    let again = host.microagent(["run", "--name", "report-run", BUSYBOX, "true"]).expect(1);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);

    let disk = host.state().join("workspaces/report-run/rootfs.ext4");
    run(tool("e2fsck").args(["-fn"]).arg(&disk));
    let found = run(tool("debugfs").args(["-R", "cat /upper/workspace/report.txt"]).arg(&disk));
    assert_eq!(found, b"artifact content\n");

    host.microagent(["delete", "report-run", "--yes"]).expect(0);
    host.microagent(["delete", "report-run", "--yes"]).expect(0);
    host.assert_nothing_left();
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let host = Host::new();
    let plan = host
        .microagent([
            "--json",
            "run",
            "--dry-run",
            "--profile",
            "medium",
            "--name",
            "later",
            "localhost/absent:1",
            "true",
        ])
        .expect(0)
        .json();
    let plan = plan.get("plan").unwrap_or(&plan);
    assert_eq!(plan["workspace"], "later");
    assert_eq!(plan["resources"]["memory_mib"], 2048);
    host.assert_nothing_left();
}
