//! How a command ended is told exactly, and the command line's own status only says so when asked to.

use crate::host::{BUSYBOX, Host};

#[test]
fn a_run_that_completed_is_a_success_whatever_its_command_returned() {
    let host = Host::new();
    let ran = host.microagent(["run", "--profile", "tiny", BUSYBOX, "false"]).expect(0);
    assert!(ran.stderr.contains("Exit code: 1\n"), "{}", ran.stderr);
}

#[test]
fn the_commands_status_is_propagated_on_request() {
    let host = Host::new();
    let run = |line| ["run", "--profile", "tiny", "--propagate-exit-code", "--image", BUSYBOX, "--exec", line];
    host.microagent(run("exit 0")).expect(0);
    host.microagent(run("exit 42")).expect(42);
    host.microagent(run("kill -9 $$")).expect(137);
    let by_variable = host
        .command(["run", "--profile", "tiny", BUSYBOX, "false"])
        .env("MICROAGENT_PROPAGATE_EXIT_CODE", "1")
        .output()
        .unwrap();
    assert_eq!(by_variable.status.code(), Some(1));
}

#[test]
fn a_signal_is_told_from_an_exit_code() {
    let host = Host::new();
    let result = &host.shell("kill -15 $$")["result"];
    assert_eq!((result["exit_code"].as_i64(), result["signal"].as_i64()), (Some(143), Some(15)));
    let result = &host.shell("exit 143")["result"];
    assert_eq!((result["exit_code"].as_i64(), result["signal"].as_i64()), (Some(143), None));
}

#[test]
fn a_command_that_never_ran_is_an_error_that_says_why() {
    let host = Host::new();
    let cases: [(&[&str], &str, i32); 5] = [
        (&[BUSYBOX, "/no/such/program"], "command_not_found", 127),
        (&[BUSYBOX, "nosuchprogram"], "command_not_found", 127),
        (&[BUSYBOX, "/etc/passwd"], "command_not_executable", 126),
        (&["--user", "nobody-here", BUSYBOX, "true"], "user_unknown", 125),
        (&["--workdir", "/etc/passwd", BUSYBOX, "true"], "working_directory", 125),
    ];
    for (arguments, code, propagated) in cases {
        let run = ["--json", "run", "--profile", "tiny"];
        let ran = host.microagent(run.iter().chain(arguments)).expect(1);
        assert!(ran.stderr.contains(code), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.text(), "");
        let run = ["run", "--profile", "tiny", "--propagate-exit-code"];
        host.microagent(run.iter().chain(arguments)).expect(propagated);
    }
    host.assert_nothing_left();
}

#[test]
fn a_failed_setup_step_ends_the_run_and_is_named() {
    let host = Host::new();
    let ran = host
        .microagent([
            "run",
            "--profile",
            "tiny",
            "--image",
            BUSYBOX,
            "--setup",
            "true",
            "--setup",
            "echo bad; exit 7",
            "--exec",
            "echo never",
        ])
        .expect(1);
    assert_eq!(ran.text(), "bad\n");
    assert!(ran.stderr.contains("set-up step 2 of 2 failed with exit code 7: `echo bad; exit 7`"), "{}", ran.stderr);
    host.assert_nothing_left();
}
