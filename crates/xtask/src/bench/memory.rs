//! The memory of machines that have nothing to do.

use super::Bench;
use super::goal::Goal;
use crate::{Error, Result};

const GOAL: &str = "memory of ten idle machines from one template / one (PSS)";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    bench.warm_up()?;
    let [one, ten] = [idle(bench, "1")?, idle(bench, "10")?];
    println!("\n{:<38}{:>26}{:>26}", "idle machines, PSS of engines in MiB", "one", "ten");
    println!("{:<38}{one:>26.1}{ten:>26.1}", "busybox");
    println!("{:<38}{:>26}{:>26.2}", "ratio", "", ten / one);
    Ok(vec![Goal::at_most(4.0, "x", GOAL, ten / one)])
}

/// The share of memory that `count` idle machines have together, in MiB.
fn idle(bench: &Bench, count: &str) -> Result<f64> {
    let footprint = bench.json(["--json", "perf", "footprint", "--image", &bench.busybox, "--count", count])?;
    let kib = footprint["total"]["pss_kib"].as_f64();
    let wanted = || Error::Unexpected { line: "microagent perf footprint".to_owned(), wanted: "total" };
    Ok(kib.ok_or_else(wanted)? / 1024.0)
}
