//! Workspaces that are kept up.

use crate::host::{BUSYBOX, Host, Running};
use microagent::{Client, Name, Phase};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long a machine may take to get anywhere, on a host that is very busy.
const DEADLINE: Duration = Duration::from_mins(5);

/// Waits until the workspace is in `phase`.
#[track_caller]
fn await_phase(host: &Host, name: &str, phase: Phase) {
    let client = Client::open(Some(host.state())).unwrap();
    let workspace = client.state().find(&Name::new(name).unwrap()).unwrap();
    let (watch, deadline) = (workspace.watch().unwrap(), Instant::now() + DEADLINE);
    while workspace.status().unwrap().phase != phase {
        assert!(watch.changed(Some(deadline)).unwrap(), "`{name}` did not become {phase}");
    }
}

fn create(host: &Host, text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spec.yaml");
    std::fs::write(&path, format!("name: kept-up\nimage: {BUSYBOX}\nprofile: tiny\n{text}")).unwrap();
    host.microagent(["create", "--file", path.to_str().unwrap()]).expect(0);
}

fn events(host: &Host) -> Vec<String> {
    let events = host.microagent(["--json", "events", "kept-up"]).expect(0).json();
    events["events"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_service_that_fails_is_started_again_until_it_succeeds() {
    let host = Host::new();
    create(&host, "restart: on-failure\nservice: echo run >> /runs; sync; test $(wc -l < /runs) -ge 3\n");
    let report = host.microagent(["--json", "supervise", "kept-up"]).expect(0).json();
    assert_eq!((&report["restarts"], &report["state"]), (&2.into(), &"stopped".into()), "{report}");
    let restarted = events(&host).iter().filter(|event| *event == "restarted").count();
    assert_eq!(restarted, 2);
}

#[test]
fn what_never_succeeds_is_given_up_and_what_is_never_to_be_restarted_is_not() {
    let host = Host::new();
    create(&host, "restart: always\nservice: exit 7\n");
    let given_up = host.microagent(["--json", "supervise", "kept-up", "--max-restarts", "1"]).expect(1);
    assert!(given_up.stderr.contains("too_many_restarts"), "{}", given_up.stderr);
    let never = "name: kept-up\nrestart: never\n";
    let path = host.state().join("never.yaml");
    std::fs::write(&path, never).unwrap();
    host.microagent(["apply", "--file", path.to_str().unwrap()]).expect(0);
    let report = host.microagent(["--json", "supervise", "kept-up"]).expect(1).json();
    assert_eq!((&report["restarts"], &report["state"]), (&0.into(), &"failed".into()), "{report}");
}

#[test]
fn a_workspace_that_is_unwell_is_killed_and_started_again() {
    let host = Host::new();
    create(
        &host,
        "\
restart: on-failure
service: if [ -e /been-here ]; then touch /well; fi; touch /been-here; sync; exec sleep 100000
health: { exec: [/bin/sh, -c, test -e /well], intervalSeconds: 1, retries: 2 }
",
    );
    let mut supervising = Running::start_silent(host.command(["supervise", "kept-up"]));
    await_event(&host, "restarted");
    await_phase(&host, "kept-up", Phase::Running);
    assert!(events(&host).contains(&"unhealthy".to_owned()));
    host.microagent(["halt", "kept-up"]).expect(0);
    assert_eq!(supervising.wait(), 0, "one that is halted on request stays down");
}

#[test]
fn a_server_that_answers_with_an_error_is_unwell_and_one_that_answers_is_left_alone() {
    let host = Host::new();
    // The page is missing in the first life, and there in the second.
    create(
        &host,
        "\
restart: on-failure
service: |
  mkdir -p /www; if [ -e /been-here ]; then touch /www/ready; fi; touch /been-here; sync; exec httpd -f -p 8080 -h /www
health: { httpGet: /ready, port: 8080, intervalSeconds: 1, retries: 2 }
",
    );
    let mut supervising = Running::start_silent(host.command(["supervise", "kept-up"]));
    await_history(&host, &["unhealthy", "restarted", "running"]);
    // Long enough for more probes than it takes to be unwell.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(events(&host).iter().filter(|event| *event == "unhealthy").count(), 1);
    host.microagent(["halt", "kept-up"]).expect(0);
    assert_eq!(supervising.wait(), 0);
}

/// Waits until something of that name has happened.
#[track_caller]
fn await_event(host: &Host, wanted: &str) {
    await_history(host, &[wanted]);
}

/// Waits until these have happened, one after the other.
#[track_caller]
fn await_history(host: &Host, wanted: &[&str]) {
    let client = Client::open(Some(host.state())).unwrap();
    let workspace = client.state().find(&Name::new("kept-up").unwrap()).unwrap();
    let (watch, deadline) = (workspace.watch().unwrap(), Instant::now() + DEADLINE);
    let has_happened = || {
        let events = workspace.events(0).unwrap().0;
        let mut events = events.iter();
        wanted.iter().all(|wanted| events.any(|event| event.event == *wanted))
    };
    while !has_happened() {
        assert!(watch.changed(Some(deadline)).unwrap(), "not all of this happened: {wanted:?}");
    }
}

#[test]
fn an_end_that_was_asked_for_stands_whatever_the_policy() {
    let host = Host::new();
    create(&host, "restart: always\n");
    for (verb, state) in [("halt", "halted"), ("kill", "stopped")] {
        let supervising = Running::start_silent(host.command(["--json", "supervise", "kept-up"]));
        await_phase(&host, "kept-up", Phase::Running);
        let line =
            [&[verb, "kept-up", "--reason", "enough"][..], if verb == "kill" { &["--yes"] } else { &[] }].concat();
        host.microagent(line).expect(0);
        let report = supervising.finish().expect(0).json();
        assert_eq!((&report["state"], &report["restarts"]), (&state.into(), &0.into()), "{report}");
    }
}

#[test]
fn a_supervision_that_is_asked_to_end_halts_the_workspace() {
    let host = Host::new();
    create(&host, "restart: always\n");
    let supervising = Running::start_silent(host.command(["--json", "supervise", "kept-up"]));
    await_phase(&host, "kept-up", Phase::Running);
    supervising.send(Signal::TERM);
    let report = supervising.finish().expect(0).json();
    assert_eq!(report["state"], "halted", "{report}");
    host.await_no_engine();
}

#[test]
fn a_supervision_that_is_asked_to_end_during_a_start_leaves_nothing_running() {
    let host = Host::new();
    create(&host, "restart: always\n");
    let supervising = Running::start_silent(host.command(["--json", "supervise", "kept-up"]));
    await_phase(&host, "kept-up", Phase::Starting);
    supervising.send(Signal::TERM);
    // It came up before it heard of it, or did not come up.
    let ended = supervising.finish();
    let report = ended.json();
    assert_eq!(report["restarts"], 0, "{report} {}", ended.stderr);
    let halted = report["state"] == "halted" && ended.status == 0;
    assert!(halted || (report["state"] == "failed" && ended.status == 1), "{report} {}", ended.stderr);
    host.await_no_engine();
}

#[test]
fn a_workspace_whose_supervisor_died_is_started_again() {
    let host = Host::new();
    create(&host, "restart: on-failure\n");
    let supervising = Running::start_silent(host.command(["supervise", "kept-up"]));
    await_phase(&host, "kept-up", Phase::Running);
    let before = host.microagent(["--json", "status", "kept-up"]).expect(0).json();
    let pid = before["readiness"]["running"]["supervisor_pid"].as_u64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    // By its history: between the one supervisor and the next, the record still has what the first one wrote.
    await_history(&host, &["restarted", "running"]);
    supervising.send(Signal::TERM);
    supervising.finish().expect(0);
}
