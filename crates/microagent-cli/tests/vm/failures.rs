//! Machines that fail: the run says how, leaves its workspace for its logs, and no process.

use crate::host::{BUSYBOX, Host, Running};
use rustix::process::{Pid, Signal, kill_process};

fn only_workspace(host: &Host) -> String {
    let list = host.microagent(["--json", "list"]).expect(0).json();
    let rows = list["workspaces"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{list}");
    assert_eq!(rows[0]["state"], "failed");
    rows[0]["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_that_takes_too_long_is_killed_and_leaves_its_logs() {
    let host = Host::new();
    let ran = host.microagent([
        "run",
        "--profile",
        "tiny",
        "--timeout",
        "20",
        "--image",
        BUSYBOX,
        "--exec",
        "echo begun; sleep 600",
    ]);
    let ran = ran.expect(1);
    let name = only_workspace(&host);
    let expected = format!("Error: run workspace \"{name}\" failed (backend=linux-");
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    assert!(ran.stderr.contains("signal: killed"), "{}", ran.stderr);
    assert_eq!(ran.text(), "begun\n");
    host.assert_no_engine();
    assert!(host.microagent(["logs", &name]).expect(0).text().contains("begun"));
    host.microagent(["delete", &name, "--yes"]).expect(0);
    host.assert_nothing_left();
}

#[test]
fn a_timeout_that_passes_during_boot_ends_the_run_too() {
    let host = Host::new();
    let ran = host.microagent(["run", "--profile", "tiny", "--timeout", "1ms", BUSYBOX, "true"]).expect(1);
    assert!(ran.stderr.contains("signal: killed"), "{}", ran.stderr);
    host.assert_no_engine();
}

#[test]
fn a_guest_kernel_that_panics_is_reported_with_its_last_words() {
    let host = Host::new();
    let ran =
        host.microagent(["run", "--profile", "tiny", "--image", BUSYBOX, "--exec", "echo c > /proc/sysrq-trigger"]);
    let ran = ran.expect(1);
    assert!(ran.stderr.contains("Kernel panic"), "{}", ran.stderr);
    let name = only_workspace(&host);
    assert!(host.microagent(["logs", &name]).expect(0).text().contains("Kernel panic"));
}

#[test]
fn an_engine_that_is_killed_ends_the_run() {
    let host = Host::new();
    let child = Running::start(
        host.command(["run", "--profile", "tiny", "--image", BUSYBOX, "--exec", "echo up; sleep 600"]),
        "up",
    );
    let [engine] = host.engines()[..] else { panic!("one engine is running") };
    kill_process(Pid::from_raw(engine.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let ran = child.finish().expect(1);
    assert!(ran.stderr.contains("the machine ended unexpectedly with signal 9"), "{}", ran.stderr);
    only_workspace(&host);
}

#[test]
fn missing_parts_are_one_line_and_the_command_that_helps() {
    let host = Host::new();
    let cases: [(&[&str], &str, &str); 4] = [
        (&["--pull", "never", "localhost/absent:1", "true"], "localhost/absent:1", "hint:"),
        (&["--kernel", "/no/such/kernel", BUSYBOX, "true"], "/no/such/kernel", ""),
        (&["--backend", "linux-xen", BUSYBOX, "true"], "linux-xen", "linux-kvm"),
        (&["--arch", "arm64", BUSYBOX, "true"], "arm64", "amd64"),
    ];
    for (arguments, named, helps) in cases {
        let ran = host.microagent(["run"].iter().chain(arguments));
        assert_ne!(ran.status, 0);
        assert!(ran.stderr.starts_with("Error: "), "{}", ran.stderr);
        assert!(ran.stderr.contains(named) && ran.stderr.contains(helps), "{arguments:?}: {}", ran.stderr);
    }
    let no_qemu = host.command(["run", BUSYBOX, "true"]).env("PATH", "/nonexistent").output().unwrap();
    let said = String::from_utf8_lossy(&no_qemu.stderr);
    assert!(said.contains("qemu") && said.contains("hint:"), "{said}");
    host.assert_nothing_left();
}

#[test]
fn a_reader_that_stalls_does_not_outlast_the_timeout() {
    let host = Host::new();
    let line = "echo up; while echo more; do :; done";
    let run = ["run", "--profile", "tiny", "--timeout", "20", "--image", BUSYBOX, "--exec", line];
    // Nobody reads what comes after `up` until the command has ended.
    let mut stalled = Running::start(host.command(run), "up");
    assert_eq!(stalled.wait(), 1);
    assert!(stalled.finish().stderr.contains("signal: killed"));
    host.assert_no_engine();
}
