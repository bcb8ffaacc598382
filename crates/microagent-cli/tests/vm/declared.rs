//! Workspaces described by a file, made and run.

use crate::host::{BUSYBOX, Host, Ran, Running};
use std::path::Path;

/// A directory with a workspace file and what it names.
fn described(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("microagent.yaml"), format!("image: {BUSYBOX}\nprofile: tiny\n{text}")).unwrap();
    std::fs::write(dir.path().join("note.txt"), "from the host\n").unwrap();
    dir
}

fn in_directory(host: &Host, directory: &Path, line: &[&str]) -> Ran {
    host.command(line).current_dir(directory).output().unwrap().into()
}

#[test]
fn what_a_file_describes_is_what_runs() {
    let host = Host::new();
    let dir = described(
        "\
name: declared
hostname: from-file
service: cat /opt/deep/note.txt; echo $GREETING; exec sleep 100000
setup:
  - mkdir -p /workspace
  - run: cat /opt/deep/note.txt > /workspace/status
files:
  - { src: note.txt, dst: /opt/deep/note.txt, mode: \"0640\" }
env: { GREETING: hello }
outputs: [{ name: status, path: /workspace/status }]
",
    );
    in_directory(&host, dir.path(), &["create"]).expect(0);
    // What a file held when the workspace was made is what counts.
    std::fs::write(dir.path().join("note.txt"), "changed\n").unwrap();
    host.microagent(["start", "declared"]).expect(0);
    let line = "hostname; cat /workspace/status; stat -c '%a %u %s' /opt/deep/note.txt; env | grep GREETING";
    let said = host.microagent(["exec", "declared", "--", "/bin/sh", "-c", line]).expect(0).text();
    assert_eq!(said, "from-file\nfrom the host\n640 0 14\nGREETING=hello\n");
    let status = host.microagent(["--json", "status", "declared"]).expect(0).json();
    assert_eq!(status["verification"]["ok"], true, "{status}");
    for probe in ["guest_ready", "exec_ready"] {
        assert_eq!(status["readiness"][probe]["ready"], true, "{status}");
    }
    assert!(host.microagent(["ps"]).expect(0).text().contains("declared"));
    host.microagent(["delete", "declared", "--yes"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn set_up_that_fails_is_tried_again_with_the_same_files() {
    let host = Host::new();
    let dir = described(
        "\
name: again
setup: if [ -e /tried ]; then cat /opt/note > /done; else touch /tried; exit 3; fi
files: [{ src: note.txt, dst: /opt/note }]
",
    );
    let failed = in_directory(&host, dir.path(), &["create"]).expect(1);
    assert!(failed.stderr.contains("exit code 3"), "{}", failed.stderr);
    std::fs::remove_file(dir.path().join("note.txt")).unwrap();
    host.microagent(["start", "again"]).expect(0);
    let done = host.microagent(["exec", "again", "--", "cat", "/done"]).expect(0).text();
    assert_eq!(done, "from the host\n");
    host.microagent(["delete", "again", "--force"]).expect(0);
}

#[test]
fn a_workspace_that_runs_takes_a_new_policy_and_keeps_it() {
    let host = Host::new();
    let dir = described("name: live\n");
    in_directory(&host, dir.path(), &["create"]).expect(0);
    host.microagent(["start", "live"]).expect(0);
    let apply = |text: &str| {
        std::fs::write(dir.path().join("new.yaml"), text).unwrap();
        in_directory(&host, dir.path(), &["--json", "apply", "live", "--file", "new.yaml"])
    };
    let refused = apply("restart: always\nresources: { memoryMiB: 1024 }\n").expect(1);
    assert!(refused.stderr.contains("apply_impossible") && refused.stderr.contains("memoryMiB"), "{}", refused.stderr);
    let applied = apply("restart: always\noutputs: [{ name: hosts, path: /etc/hosts }]\n").expect(0).json();
    assert_eq!(applied["applied"], true, "{applied}");
    host.microagent(["halt", "live"]).expect(0);
    let status = host.microagent(["--json", "status", "live"]).expect(0).json();
    assert_eq!((&status["restart"], &status["outputs"]["hosts"]), (&"always".into(), &"/etc/hosts".into()));
    let events = host.microagent(["events", "live"]).expect(0).text();
    assert!(events.contains(" applied ") && events.contains("changed restart, outputs"), "{events}");
}

#[test]
fn a_run_takes_its_image_and_service_from_a_file() {
    let host = Host::new();
    let dir = described("service: cat /opt/note\nfiles: [{ src: note.txt, dst: /opt/note }]\n");
    let said = in_directory(&host, dir.path(), &["run", "--quiet", "--file", "microagent.yaml"]).expect(0).text();
    assert_eq!(said, "from the host\n");
    let line = ["run", "--quiet", "--file", "microagent.yaml", "echo", "instead"];
    assert_eq!(in_directory(&host, dir.path(), &line).expect(0).text(), "instead\n");
    host.assert_nothing_left();
}

#[test]
fn a_tag_that_has_moved_on_is_told_as_drift_and_stops_nothing() {
    let host = Host::new();
    host.microagent(["create", "drift", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    let verification = || host.microagent(["--json", "status", "drift"]).expect(0).json()["verification"].clone();
    assert_eq!(verification()["ok"], true, "{}", verification());
    host.microagent(["image", "tag", crate::host::SHELLLESS, BUSYBOX]).expect(0);
    let found = verification();
    assert_eq!(found["divergence"].as_array().unwrap().len(), 1, "{found}");
    let divergence = &found["divergence"][0];
    assert_eq!((&divergence["artifact"], &divergence["expected"]), (&"image".into(), &found["recorded"]["base"]));
    assert!(divergence["actual"].as_str().unwrap().starts_with("sha256:"), "{found}");
    host.microagent(["start", "drift"]).expect(0);
    host.microagent(["exec", "drift", "--", "/bin/sh", "-c", "true"]).expect(0);
    host.microagent(["delete", "drift", "--force"]).expect(0);
}

#[test]
fn a_run_under_way_can_be_looked_at_and_is_in_nobodys_way() {
    let host = Host::new();
    let line = ["run", "--name", "busy", "--profile", "tiny", "--image", BUSYBOX, "--exec", "echo up; sleep 600"];
    let _run = Running::start(host.command(line), "up");
    let status = host.microagent(["--json", "status", "busy"]).expect(0).json();
    assert_eq!(status["phase"], "running");
    assert!(status.get("readiness").is_none(), "a run listens to nobody: {status}");
    for how in ["--yes", "--force"] {
        let refused = host.microagent(["delete", "busy", "absent", how]).expect(1);
        assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
        assert_eq!(refused.text(), "Not there: absent\n");
    }
}
