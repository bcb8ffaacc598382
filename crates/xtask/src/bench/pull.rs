//! Getting a multi-layer image from a registry on this host into an empty store, ready to run.

use super::Bench;
use super::goal::Goal;
use super::podman::Podman;
use super::sample::{in_turns, time};
use super::store::Store;
use crate::Result;

const GOAL: &str = "pull and unpack / `podman pull`, both into empty storage";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let ours = || {
        let state = Store::new()?;
        time(&mut bench.microagent.with_state(state.path()).command(["image", "pull", &bench.debian]))
    };
    let theirs = || time(&mut Podman::new()?.pull(&bench.debian));
    let [ours, theirs] = in_turns(bench.times, [&ours, &theirs])?;
    println!("\n{:<38}{:>26}{:>26}", "pull and unpack, in ms", "microagent", "podman (overlay)");
    println!("{:<38}{:>26}{:>26}", "debian-python", ours.to_string(), theirs.to_string());
    let ratio = ours.median() / theirs.median();
    println!("{:<38}{ratio:>26.2}", "ratio of the medians");
    Ok(vec![Goal::at_most(0.7, "x", GOAL, ratio)])
}
