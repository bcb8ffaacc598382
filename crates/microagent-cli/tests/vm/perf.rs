//! `microagent perf`: figures that say what they are, of machines that are gone afterwards.

use crate::host::{BUSYBOX, Host};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};

/// Measures a small machine with busybox.
#[track_caller]
fn perf(host: &Host, verb: &str, arguments: &[&str]) -> Value {
    let line = ["--json", "perf", verb, "--profile", "tiny", "--image", BUSYBOX];
    let measured = host.microagent(line.iter().chain(arguments)).expect(0).json();
    host.assert_nothing_left();
    measured
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}: {value}"))
}

#[track_caller]
fn assert_states_its_circumstances(measured: &Value) {
    let host = &measured["host"];
    assert!(number(host, "/cores") >= 1.0 && number(host, "/load_before") >= 0.0 && number(host, "/load_after") >= 0.0);
    for text in ["kernel", "backend", "engine", "engine_version"] {
        assert!(host[text].is_string(), "{text}: {host}");
    }
    assert!(measured["subject"]["image"].as_str().unwrap().contains("busybox"), "{measured}");
    assert_eq!(measured["subject"]["resources"]["memory_mib"], 256);
    assert!(!measured["boundary"].as_str().unwrap().is_empty());
}

#[test]
fn a_boot_is_measured_cold_and_phase_by_phase() {
    let host = Host::new();
    let measured = perf(&host, "boot", &["--iterations", "2"]);
    assert_states_its_circumstances(&measured);
    let iterations = measured["iterations"].as_array().unwrap();
    assert_eq!(iterations.len(), 2);
    for iteration in iterations {
        assert_eq!(iteration["start"], "cold");
        let phases = iteration["phases_ms"].as_object().unwrap();
        let sum: f64 = phases.values().map(|phase| phase.as_f64().unwrap()).sum();
        let total = number(iteration, "/total_ms");
        assert!(sum > 0.0 && sum <= total + 1.0, "phases are parts of the whole: {iteration}");
    }
    let summary = &measured["summary"];
    assert_eq!((&summary["count"], &summary["failures"]), (&2.into(), &0.into()));
    for spread in ["/total_ms", "/phases_ms/command"] {
        let at = |name: &str| number(summary, &format!("{spread}/{name}"));
        assert!(at("min") <= at("p50") && at("p50") <= at("p95") && at("p95") <= at("max"), "{summary}");
        assert!(at("min") <= at("mean") && at("mean") <= at("max"), "{summary}");
    }
}

#[test]
fn a_machine_is_warm_after_the_runs_that_warm_up_unless_it_shall_be_cold() {
    let host = Host::new();
    for (start, arguments) in [("warm", &[][..]), ("cold", &["--start", "cold", "--warmups", "0"])] {
        let measured = perf(&host, "ready", &[&["--iterations", "2"], arguments].concat());
        let starts: Vec<_> = measured["iterations"].as_array().unwrap().iter().map(|one| &one["start"]).collect();
        assert_eq!(starts, [start, start]);
    }
}

#[test]
fn commands_of_one_machine_are_compared_with_the_guests_own() {
    let host = Host::new();
    let measured = perf(&host, "exec", &["--iterations", "4"]);
    assert_states_its_circumstances(&measured);
    assert_eq!(measured["iterations"].as_array().unwrap().len(), 4);
    assert_eq!(measured["guest"]["count"], 5);
    let ratio = number(&measured, "/summary/total_ms/p50") / number(&measured, "/guest/mean_ms");
    assert!((number(&measured, "/ratio") - ratio).abs() < 0.01, "{measured}");
}

#[test]
fn the_memory_of_idle_machines_is_that_of_their_engines() {
    let host = Host::new();
    let measured = perf(&host, "footprint", &["--count", "2"]);
    assert_states_its_circumstances(&measured);
    let engines = measured["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 2);
    assert_ne!(engines[0]["pid"], engines[1]["pid"]);
    for figure in ["pss_kib", "rss_kib", "private_dirty_kib"] {
        let sum: f64 = engines.iter().map(|engine| number(engine, &format!("/{figure}"))).sum();
        assert!(sum > 0.0 && number(&measured["own"], &format!("/{figure}")) > 0.0, "{measured}");
        assert!((number(&measured["total"], &format!("/{figure}")) - sum).abs() < 1.0, "{measured}");
    }
}

#[test]
fn an_idle_machine_is_looked_at_once_every_interval() {
    let host = Host::new();
    let measured = perf(&host, "steady", &["--duration", "1", "--interval", "250ms"]);
    assert_states_its_circumstances(&measured);
    let samples = measured["samples"].as_array().unwrap();
    assert_eq!((samples.len(), &measured["summary"]["count"]), (4, &4.into()));
    assert!(samples.windows(2).all(|pair| number(&pair[0], "/at_ms") + 250.0 <= number(&pair[1], "/at_ms") + 1.0));
    assert!(samples.iter().all(|sample| number(sample, "/pss_kib") > 0.0 && number(sample, "/cpu_percent") >= 0.0));
}

#[test]
fn a_command_that_fails_is_not_worth_timing() {
    let host = Host::new();
    let line = ["--json", "perf", "boot", "--profile", "tiny", "--image", BUSYBOX, "--exec", "exit 3"];
    let ran = host.microagent(line).expect(2);
    assert!(ran.stderr.contains("it ended with exit code 3"), "{}", ran.stderr);
    host.assert_nothing_left();
}

#[test]
fn an_interrupt_ends_a_measurement_and_its_machines() {
    let host = Host::new();
    for verb in [&["boot", "--iterations", "1000"][..], &["footprint", "--count", "2"], &["steady", "--duration", "1h"]]
    {
        let line = [&["--progress", "plain", "perf"], verb, &["--profile", "tiny", "--image", BUSYBOX]].concat();
        let mut child = host.command(line).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line == "booting"), "{verb:?} ended before it had a machine");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(said.last().as_deref(), Some("Error: interrupted"), "{verb:?}");
        assert_eq!(child.wait().unwrap().code(), Some(130), "{verb:?}");
        host.assert_nothing_left();
    }
}

#[test]
fn people_get_a_table_and_its_circumstances() {
    let host = Host::new();
    let text = host
        .microagent(["perf", "boot", "--profile", "tiny", "--image", BUSYBOX, "--iterations", "1"])
        .expect(0)
        .text();
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
    assert_eq!(line("PHASE").split_whitespace().skip(2).collect::<Vec<_>>(), ["MIN", "P50", "P95", "MAX", "MEAN"]);
    assert_eq!(line("total").split_whitespace().count(), 6);
    assert_eq!(line("Iterations"), "Iterations: 1, 0 of them failed (1 cold)");
    for circumstance in ["Machine: ", "Host: ", "Load: ", "Measured: "] {
        line(circumstance);
    }
}
