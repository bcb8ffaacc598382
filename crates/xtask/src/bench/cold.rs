//! The first run on a host that has the image: it boots, and makes the template that later runs are restored from.

use super::goal::Goal;
use super::plain::PlainBoot;
use super::sample::{in_turns, milliseconds_since, time};
use super::{Bench, sample::Sample};
use crate::{Error, Result};
use std::time::Instant;

const GOAL: &str = "first run, without a template / plain QEMU boot to `/init`";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let report = bench.run(&bench.busybox)?;
    let plain = PlainBoot::of(&report, bench.microagent.state())?;
    let first = || first_run(bench);
    let without = || time(&mut bench.microagent.command(["run", "--cold", "--quiet", &bench.busybox, "true"]));
    let boot = || plain.boot();
    let [first, without, boot] = in_turns(bench.times, [&first, &without, &boot])?;
    println!("\n{:<38}{:>26}{:>26}{:>26}", "in ms", "first run", "run --cold", "plain QEMU to /init");
    println!("{:<38}{:>26}{:>26}{:>26}", "busybox", first.to_string(), without.to_string(), boot.to_string());
    let ratio = |sample: &Sample| sample.median() / boot.median();
    println!("{:<38}{:>26.2}{:>26.2}", "ratio of the medians", ratio(&first), ratio(&without));
    Ok(vec![Goal::at_most(1.5, "x", GOAL, ratio(&first))])
}

fn first_run(bench: &Bench) -> Result<f64> {
    bench.forget_templates()?;
    let begun = Instant::now();
    let report = bench.run(&bench.busybox)?;
    let took = milliseconds_since(begun);
    let start = &report["start"];
    if start == "made_template" {
        return Ok(took);
    }
    Err(Error::Check(format!(
        "a run without a template did not make one: its start was {start}, {}",
        report["template_note"]
    )))
}
