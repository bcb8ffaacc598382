//! A machine has the size it was given, and running out of it is told.

use crate::host::{BUSYBOX, Host};

#[test]
fn memory_processors_and_disk_are_what_was_asked_for() {
    let host = Host::new();
    let line = "nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo; df -m / | awk 'NR == 2 { print $2 }'";
    let ran = host
        .microagent([
            "run",
            "--quiet",
            "--memory",
            "384",
            "--cpus",
            "3",
            "--size-mib",
            "700",
            "--image",
            BUSYBOX,
            "--exec",
            line,
        ])
        .expect(0);
    let numbers: Vec<u64> = ran.text().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers[0], 3);
    assert!((300 << 10..384 << 10).contains(&numbers[1]), "{} KiB of memory", numbers[1]);
    assert!((600..=700).contains(&numbers[2]), "{} MiB of disk", numbers[2]);
}

#[test]
fn a_full_disk_is_the_commands_problem_and_nobody_elses() {
    let host = Host::new();
    let ran = host.microagent([
        "--json",
        "run",
        "--profile",
        "tiny",
        "--size-mib",
        "32",
        "--image",
        BUSYBOX,
        "--exec",
        "dd if=/dev/zero of=/big bs=1048576; echo status $?; rm /big; echo again > /small && cat /small",
    ]);
    let result = &ran.expect(0).json()["result"];
    assert_eq!(result["stdout"], "status 1\nagain\n");
    assert!(result["stderr"].as_str().unwrap().contains("No space left on device"));
}

#[test]
fn a_command_killed_for_memory_is_told_from_one_that_was_merely_killed() {
    let host = Host::new();
    let result = &host.shell("tail /dev/zero")["result"];
    assert_eq!((result["exit_code"].as_i64(), result["out_of_memory"].as_bool()), (Some(137), Some(true)));
    let result = &host.shell("kill -9 $$")["result"];
    assert_eq!((result["exit_code"].as_i64(), result["out_of_memory"].as_bool()), (Some(137), None));
}

#[test]
fn the_base_is_shared_and_never_written() {
    let host = Host::new();
    host.shell("echo changed > /etc/passwd; rm -rf /bin/echo; sync");
    let ran = host.shell("grep -c root /etc/passwd; echo still here");
    assert_eq!(ran["result"]["stdout"], "1\nstill here\n");
}
