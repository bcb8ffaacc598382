//! Several runs at the same time.

use std::process::{Child, Stdio};
use std::time::Instant;

use super::Bench;
use super::goal::Goal;
use super::sample::{in_turns, milliseconds_since};
use crate::{Error, Result, tool};

const MANY: usize = 8;
const GOAL: &str = "eight warm runs at once / one";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    bench.warm_up()?;
    let [one, many] = in_turns(bench.times, [&|| at_once(bench, 1), &|| at_once(bench, MANY)])?;
    println!("\n{:<38}{:>26}{:>26}", "warm runs at once, in ms", "one", "eight");
    println!("{:<38}{:>26}{:>26}", "until the last has ended", one.to_string(), many.to_string());
    let ratio = many.median() / one.median();
    println!("{:<38}{:>26}{ratio:>26.2}", "ratio of the medians", "");
    Ok(vec![Goal::at_most(4.0, "x", GOAL, ratio)])
}

/// Starts `count` runs, and returns the milliseconds until all of them have ended.
fn at_once(bench: &Bench, count: usize) -> Result<f64> {
    let begun = Instant::now();
    let runs = (0..count).map(|_| start(bench)).collect::<Result<Vec<Child>>>()?;
    for mut run in runs {
        let status = run.wait().map_err(Error::file("wait for", bench.microagent.program()))?;
        if !status.success() {
            return Err(Error::Tool { line: "microagent run".to_owned(), status });
        }
    }
    Ok(milliseconds_since(begun))
}

fn start(bench: &Bench) -> Result<Child> {
    let mut command = bench.microagent.command(["run", "--quiet", &bench.busybox, "true"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map_err(tool::start(&command))
}
