//! What a command writes reaches the caller as it was written.

use crate::host::{BUSYBOX, Host, SHELLLESS};
use std::io::Write;
use std::process::Stdio;

#[test]
fn standard_output_and_standard_error_stay_apart_and_nothing_is_left() {
    let host = Host::new();
    let ran = host.microagent(["run", BUSYBOX, "sh", "-c", "echo out; echo err >&2"]).expect(0);
    assert_eq!(ran.text(), "out\n");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines[0], "err");
    assert!(lines[1].starts_with("Workspace: run-"), "{}", ran.stderr);
    let rest = [
        "State: stopped",
        "Profile: small",
        "Network: user",
        "Resources: memory=512MiB cpus=2 disk=1024MiB",
        "Exit code: 0",
    ];
    assert_eq!(lines[2..], rest);
    host.assert_nothing_left();
}

#[test]
fn json_is_one_document_with_the_result_in_it() {
    let host = Host::new();
    let report = host.shell("echo out; echo err >&2; exit 3");
    assert_eq!(report["result"]["stdout"], "out\n");
    assert_eq!(report["result"]["stderr"], "err\n");
    assert_eq!(report["result"]["exit_code"], 3);
    assert_eq!(report["final_state"], "stopped");
    assert_eq!(report["restart"], "never");
    assert_eq!(report["resources"]["memory_mib"], 256);
    assert_eq!(report["response"]["ok"], true);
    assert!(report["response"]["backend"].as_str().unwrap().starts_with("linux-"));
    for path in ["state_dir", "rootfs_path", "kernel_path"] {
        assert!(report[path].as_str().unwrap().starts_with('/'), "{path}");
    }
    assert!(report["result"]["started_at"].as_str() <= report["result"]["exited_at"].as_str());
}

#[test]
fn binary_output_arrives_byte_for_byte() {
    let host = Host::new();
    let line = "awk 'BEGIN { for (i = 0; i < 256; i++) printf \"%c\", i }'; printf '\\377\\000\\376'";
    let ran = host.run_quietly(&["--image", BUSYBOX, "--exec", line]);
    assert_eq!(ran.stdout[ran.stdout.len() - 3..], [0xff, 0, 0xfe]);
    assert_eq!(ran.stderr, "");
}

#[test]
fn fifty_megabytes_of_output_arrive_whole() {
    const MIB: usize = 50;
    let host = Host::new();
    let line = format!("dd if=/dev/zero bs=1048576 count={MIB} 2>/dev/null; echo end >&2");
    let ran = host.run_quietly(&["--image", BUSYBOX, "--exec", &line]);
    assert_eq!(ran.stdout.len(), MIB << 20);
    assert!(ran.stdout.iter().all(|&byte| byte == 0));
    assert_eq!(ran.stderr, "end\n");
}

#[test]
fn standard_input_is_given_on_request_and_empty_otherwise() {
    let host = Host::new();
    let mut child = host
        .command(["run", "--quiet", "--profile", "tiny", "-i", BUSYBOX, "wc", "-c"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![b'x'; 3 << 20]).unwrap();
    drop(stdin);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"3145728\n");
    assert_eq!(host.shell("cat | wc -c")["result"]["stdout"], "0\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let host = Host::new();
    let mut child = host
        .command(["run", "--quiet", "--profile", "tiny", "--image", BUSYBOX, "--exec", "while echo line; do :; done"])
        .spawn()
        .unwrap();
    let mut first = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(&first, b"line\n");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    host.assert_nothing_left();
}

#[test]
fn setup_steps_run_before_the_command_on_the_same_disk() {
    let host = Host::new();
    let ran = host.run_quietly(&[
        "--image",
        BUSYBOX,
        "--setup",
        "mkdir -p /workspace",
        "--setup",
        "echo ready > /workspace/status",
        "--exec",
        "cat /workspace/status",
    ]);
    assert_eq!(ran.text(), "ready\n");
}

#[test]
fn the_images_own_command_entry_point_and_environment_are_used() {
    let host = Host::new();
    let ran = host.run_quietly(&[BUSYBOX]);
    assert_eq!(ran.text(), "the default command\n");
    let ran = host.run_quietly(&[
        "-e",
        "GREETING=hello",
        "-e",
        "TARGET=microvm",
        BUSYBOX,
        "sh",
        "-c",
        "echo $GREETING $TARGET $FROM_IMAGE",
    ]);
    assert_eq!(ran.text(), "hello microvm yes\n");
}

#[test]
fn an_image_without_a_shell_runs_its_program() {
    let host = Host::new();
    let ran = host.run_quietly(&[SHELLLESS, "no", "shell", "here"]);
    assert_eq!(ran.text(), "no shell here\n");
}
