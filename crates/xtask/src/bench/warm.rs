//! A run as a user has it, from prompt to prompt: the machine is restored from a template that an earlier run made.

use super::Bench;
use super::goal::Goal;
use super::podman::{Network, Podman};
use super::sample::{Sample, in_turns, time};
use crate::{Error, Result, tool};

const GOAL: &str = "`microagent run IMAGE true`, warm";
const GOAL_NETWORK: &str = "the same / `podman run --rm`, its default network";
const GOAL_NONE: &str = "the same / `podman run --rm --network none`";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let podman = Podman::new()?;
    println!("\n{:<38}{:>26}{:>26}", "run IMAGE true, in ms", "with a network", "without");
    let goals = compare(bench, &podman, "busybox", &bench.busybox)?;
    compare(bench, &podman, "debian-python", &bench.debian)?;
    println!("{:<38}{:>52.1}", "of podman's: entering its namespaces", podman.entering()?);
    Ok(goals)
}

/// Compares runs of `image`, after one on each side that is not counted.
fn compare(bench: &Bench, podman: &Podman, name: &str, image: &str) -> Result<Vec<Goal>> {
    tool::capture(&mut podman.pull(image))?;
    tool::capture(&mut podman.run(image, Network::None))?;
    let refused = refusal(podman, image)?;
    bench.warm_up()?;
    tool::capture(&mut bench.microagent.command(["template", "prepare", "--network", "isolated"]))?;
    let report = bench.run(image)?;
    let (start, rehearsed) = (&report["start"], &report["rehearsed"]);
    if start != "warm" || rehearsed != true {
        return Err(Error::Check(format!("a run of `{image}` was not warm, but {start}; rehearsed: {rehearsed}")));
    }
    let run = |network| time(&mut bench.microagent.command(["run", "--quiet", "--network", network, image, "true"]));
    let (ours, isolated) = (|| run("user"), || run("isolated"));
    let alone = || time(&mut podman.run(image, Network::None));
    let connected = || match &refused {
        None => time(&mut podman.run(image, Network::Default)),
        Some(_) => Ok(f64::NAN),
    };
    let [ours, isolated, connected, alone] = in_turns(bench.times, [&ours, &isolated, &connected, &alone])?;
    let row = |what: &str, [with, without]: [String; 2]| println!("{what:<38}{with:>26}{without:>26}");
    row(&format!("microagent, {name}"), [&ours, &isolated].map(Sample::to_string));
    row("podman", [&connected, &alone].map(Sample::to_string));
    let ratio = |peer: &Sample| ours.median() / peer.median();
    row(
        "ratio of the medians",
        [ratio(&connected), isolated.median() / alone.median()].map(|ratio| format!("{ratio:.2}")),
    );
    Ok(vec![
        Goal::at_most(0.2, "s", GOAL, ours.median() / 1e3),
        match &refused {
            None => Goal::at_most(0.5, "x", GOAL_NETWORK, ratio(&connected)),
            Some(why) => Goal::unmeasured(0.5, "x", GOAL_NETWORK, why),
        },
        Goal::at_most(1.2, "x", GOAL_NONE, ratio(&alone)),
    ])
}

/// Why podman's default network does not work here, if it does not: that takes a kernel with bridges and a firewall.
fn refusal(podman: &Podman, image: &str) -> Result<Option<String>> {
    let output = tool::output(&mut podman.run(image, Network::Default))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = || said.lines().last().unwrap_or("it said nothing").to_owned();
    Ok((!output.status.success()).then(reason))
}
