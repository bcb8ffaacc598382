//! Runs taken apart, by the program's own `perf` verbs.

use super::Bench;
use super::goal::Goal;
use crate::{Error, Result, tool};

const GOAL: &str = "`exec` in a running machine / fork and exec in the guest";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let times = bench.times.to_string();
    bench.warm_up()?;
    for (what, verb) in [("A warm run taken apart", "ready"), ("A cold run taken apart", "boot")] {
        let line = ["perf", verb, "--image", &bench.busybox, "--iterations", &times];
        println!("\n{what}\n{}", tool::capture(&mut bench.microagent.command(line))?.trim_end());
    }
    let exec = bench.json(["--json", "perf", "exec", "--image", &bench.busybox])?;
    let number = |pointer: &str| {
        let wanted = Error::Unexpected { line: "microagent perf exec".to_owned(), wanted: "ratio" };
        exec.pointer(pointer).and_then(serde_json::Value::as_f64).ok_or(wanted)
    };
    println!("\n{:<38}{:>26}{:>26}", "in one machine, in ms", "exec", "fork+exec in the guest");
    let (round_trip, guest) = (number("/summary/total_ms/p50")?, number("/guest/mean_ms")?);
    println!("{:<38}{round_trip:>26.2}{guest:>26.2}", "/bin/sh -c true");
    Ok(vec![Goal::at_most(3.0, "x", GOAL, number("/ratio")?)])
}
