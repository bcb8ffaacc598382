//! What is true after something died.

use super::machine;
use crate::host::{BUSYBOX, Host, Running};
use microagent_testing::{run, tool};
use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

/// How soon the record has to be right after the next look, by the issue; and ten times that, for a host that is very busy.
const SOON: Duration = Duration::from_secs(10);

fn started(name: &str) -> Host {
    let host = Host::new();
    host.microagent(["create", name, "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", name]).expect(0);
    host
}

fn phase(host: &Host, name: &str) -> String {
    host.microagent(["--json", "status", name]).expect(0).json()["phase"].as_str().unwrap().to_owned()
}

#[test]
fn the_record_is_right_at_the_next_look_after_the_supervisor_died() {
    let host = started("box");
    machine::kill(machine::supervisor(&host, "box"));
    assert_eq!(phase(&host, "box"), "failed");
    host.await_no_engine();
    host.microagent(["gc"]).expect(0);
    let events = fs::read_to_string(host.state().join("workspaces/box/events.jsonl")).unwrap();
    assert!(events.lines().last().unwrap().contains(r#""event":"failed""#), "{events}");
    host.microagent(["start", "box"]).expect(0);
    host.microagent(["delete", "box", "--yes"]).expect(0);
    host.assert_nothing_left();
}

#[test]
fn the_record_is_right_soon_after_the_engine_died_and_nobody_asked() {
    let host = started("box");
    machine::kill(machine::engine(&host, "box"));
    let begun = Instant::now();
    host.microagent(["wait", "box", "--timeout", "60"]).expect(1);
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    let status = host.microagent(["--json", "status", "box"]).expect(0).json();
    assert_eq!(status["phase"], "failed");
    assert_eq!(status["error"]["code"], "machine_failed");
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

#[test]
fn a_machine_outlives_the_terminal_and_the_command_that_started_it() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    // In a session of its own, which hangs up when its leader ends.
    let state = host.state().to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_microagent");
    run(tool("setsid").args(["--wait", program, "--state-dir", state, "start", "box"]));
    let supervisor = machine::supervisor(&host, "box");
    host.microagent(["exec", "box", "--", "true"]).expect(0);
    let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let (session, terminal) = (fields[3], fields[4]);
    assert_eq!(
        (session, terminal),
        (supervisor.to_string().as_str(), "0"),
        "the supervisor has a session and no terminal"
    );
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

/// What a guest has flushed is on its disk, and the disk is whole, whenever its engine is killed.
#[test]
fn everything_flushed_before_the_engine_was_killed_is_there() {
    let host = started("box");
    let mut flushed = 0;
    for round in 0..5 {
        // Each number is said when it is flushed; meanwhile others are written without that.
        let line = "i=$(cat /last 2>/dev/null || echo 0); \
                    (while true; do dd if=/dev/zero of=/noise bs=4096 count=200 2>/dev/null; done) & \
                    while true; do i=$((i+1)); echo $i > /next && sync && mv /next /last && sync && echo $i; done";
        let mut writer = host.command(["exec", "box", "--", "/bin/sh", "-c", line]).spawn().unwrap();
        let mut said = String::new();
        let mut stdout = writer.stdout.take().unwrap();
        let mut buffer = [0; 256];
        // A different moment each time.
        while said.lines().count() < 2 + 3 * round {
            let count = stdout.read(&mut buffer).unwrap();
            assert!(count > 0, "the writer ended: {said}");
            said.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        machine::kill(machine::engine(&host, "box"));
        stdout.read_to_string(&mut said).unwrap();
        writer.wait().unwrap();
        let last = said.lines().filter_map(|line| line.parse::<u64>().ok()).max().unwrap();
        assert!(last > flushed, "nothing was written in round {round}");
        host.microagent(["wait", "box"]).expect(1);
        host.microagent(["start", "box"]).expect(0);
        let found = host.microagent(["exec", "box", "--", "cat", "/last"]).expect(0).text();
        flushed = found.trim().parse().unwrap();
        assert!(flushed >= last, "{last} was flushed, and {flushed} is there");
    }
    host.microagent(["halt", "box"]).expect(0);
    run(tool("e2fsck").args(["-fn"]).arg(host.state().join("workspaces/box/rootfs.ext4")));
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

#[test]
fn a_command_that_was_killed_while_it_started_a_workspace_leaves_one_that_runs_or_can_be_started() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    // Makes the template, so that the moments below are spread over a start as it usually is.
    host.microagent(["start", "box"]).expect(0);
    host.microagent(["halt", "box"]).expect(0);
    for delay_ms in [0, 5, 20, 60, 150, 300] {
        let mut starting = host.command(["start", "box"]).spawn().unwrap();
        // The moment is what is tried, not something that is waited for.
        std::thread::sleep(Duration::from_millis(delay_ms));
        let _ = starting.kill();
        let _ = starting.wait();
        // One that is on its way is waited for; one that never began is started.
        let ran = host.microagent(["exec", "box", "--", "true"]);
        if ran.status != 0 {
            let started = host.microagent(["--json", "start", "box"]);
            let began_after_all =
                ["workspace_state", "workspace_in_use"].iter().any(|code| started.stderr.contains(code));
            assert!(started.status == 0 || began_after_all, "{}", started.stderr);
            host.microagent(["exec", "box", "--", "true"]).expect(0);
        }
        host.microagent(["halt", "box"]).expect(0);
        assert_eq!(phase(&host, "box"), "halted");
    }
    host.microagent(["delete", "box", "--yes"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn a_state_directory_that_was_copied_elsewhere_lives_on_there() {
    let host = started("box");
    host.microagent(["exec", "box", "--", "/bin/sh", "-c", "echo here > /mark; sync"]).expect(0);
    let copy = Host::new();
    fs::remove_dir_all(copy.state().join("workspaces")).ok();
    // While it runs: sockets and leases are copied as they are.
    run(tool("cp").args(["--archive", "--sparse=always"]).arg(host.state().join("workspaces")).arg(copy.state()));
    assert_eq!(phase(&copy, "box"), "failed");
    copy.microagent(["start", "box"]).expect(0);
    let found = copy.microagent(["exec", "box", "--", "cat", "/mark"]).expect(0).text();
    assert_eq!(found, "here\n");
    assert_eq!(phase(&host, "box"), "running");
    copy.microagent(["delete", "box", "--yes"]).expect(0);
    host.microagent(["exec", "box", "--", "true"]).expect(0);
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

#[test]
fn damaged_and_newer_records_are_named_and_nothing_is_lost() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    let path = host.state().join("workspaces/box/workspace.json");
    let whole = fs::read_to_string(&path).unwrap();
    let newer = whole.replacen(r#""version": 3"#, r#""version": 99"#, 1);
    assert_ne!(newer, whole);
    for (what, text) in [("truncated", &whole[..whole.len() / 2]), ("empty", ""), ("newer", newer.as_str())] {
        fs::write(&path, text).unwrap();
        for verb in [&["status"][..], &["start"], &["exec"], &["halt"]] {
            let mut arguments = vec!["--json", verb[0], "box"];
            if verb[0] == "exec" {
                arguments.extend(["--", "true"]);
            }
            let ran = host.microagent(arguments);
            assert_ne!(ran.status, 0, "{what} {verb:?}");
            assert!(ran.stderr.contains("record_invalid"), "{what} {verb:?}: {}", ran.stderr);
            assert!(ran.stderr.contains("workspace.json"), "{what} {verb:?}: {}", ran.stderr);
        }
        let collected = host.microagent(["gc"]).expect(0);
        assert!(fs::metadata(host.state().join("workspaces/box/rootfs.ext4")).is_ok(), "{what}: {}", collected.text());
    }
    fs::write(&path, whole).unwrap();
    host.microagent(["start", "box"]).expect(0);
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

#[test]
fn a_clock_that_jumps_in_the_guest_upsets_nothing() {
    let host = started("box");
    for date in ["2000-01-01", "2037-12-31", "1980-06-06"] {
        host.microagent(["exec", "box", "--", "date", "-s", date]).expect(0);
        host.microagent(["exec", "box", "--timeout", "30", "--", "true"]).expect(0);
    }
    host.microagent(["halt", "box"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

#[test]
fn a_command_that_runs_when_the_engine_dies_ends_at_once_with_an_error() {
    let host = started("box");
    let sleeping = Running::start(host.command(["exec", "box", "--", "/bin/sh", "-c", "echo up; sleep 600"]), "up");
    machine::kill(machine::engine(&host, "box"));
    let ran = sleeping.finish();
    assert_eq!(ran.status, 125, "{}", ran.stderr);
    host.microagent(["wait", "box"]).expect(1);
    host.microagent(["delete", "box", "--yes"]).expect(0);
}
