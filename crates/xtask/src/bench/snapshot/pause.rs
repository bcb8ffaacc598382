//! How long the source of a snapshot stands still.

use super::source::Source;
use crate::Result;
use crate::bench::Bench;
use crate::bench::goal::Goal;
use crate::bench::sample::Sample;

const NAME: &str = "snap-pause";
/// Snapshots of each machine, after its first.
const LATER: [&str; 2] = ["second", "third"];

const GOAL_FIRST: &str = "pause of a 256 MiB guest for its first snapshot";
const GOAL_LATER: &str = "pause of a 256 MiB guest for a later one";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let (mut first, mut later) = (Sample::default(), Sample::default());
    for _ in 0..bench.times {
        let source = Source::start(bench, NAME)?;
        first.add(source.snapshot("first")?.pause_ms);
        for tag in LATER {
            later.add(source.snapshot(tag)?.pause_ms);
        }
    }
    println!("\n{:<38}{:>26}{:>26}", "a source stands still, in ms", "its first snapshot", "later ones");
    println!("{:<38}{:>26}{:>26}", "256 MiB", first.to_string(), later.to_string());
    let goal = |what, sample: &Sample| Goal::at_most(0.3, "s", what, sample.median() / 1e3);
    Ok(vec![goal(GOAL_FIRST, &first), goal(GOAL_LATER, &later)])
}
