//! Machines that go on from a snapshot: the source itself, and ten others.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Instant;

use super::source::Source;
use super::{PROFILE, prepare};
use crate::bench::Bench;
use crate::bench::goal::Goal;
use crate::bench::sample::{Sample, in_turns, milliseconds_since, time};
use crate::{Error, Result, tool};

const NAME: &str = "snap";
const TAG: &str = "kept";
const COPIES: &str = "10";

const GOAL_RESTORE: &str = "`snapshot restore` and the first `exec` / a warm run";
const GOAL_FORK: &str = "ten forks that have all answered `exec` / one restore";
const GOAL_MEMORY: &str = "memory of ten forks / one (PSS)";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let source = Source::start(bench, NAME)?;
    source.snapshot(TAG)?;
    // Nobody but those that are measured shares memory or processors with them.
    source.kill()?;
    let warm = || time(&mut bench.microagent.command(["run", "--quiet", "--profile", PROFILE, &bench.busybox, "true"]));
    let restore = || source.restore(TAG);
    let fork = || Forks::make(bench, &source, COPIES).map(|(_, took)| took);
    let [warm, restore, fork] = in_turns(bench.times, [&warm, &restore, &fork])?;
    println!("\n{:<38}{:>26}{:>26}{:>26}", "until `true` has run, in ms", "a warm run", "a restore", "ten forks");
    println!("{:<38}{:>26}{:>26}{:>26}", "busybox, 256 MiB", warm.to_string(), restore.to_string(), fork.to_string());
    let ratios = [restore.median() / warm.median(), fork.median() / restore.median()];
    println!("{:<38}{:>26}{:>26.2}{:>26.2}", "ratio to the one before", "", ratios[0], ratios[1]);
    let memory = memory(bench, &source)?;
    evicted(bench, &source)?;
    prepare(bench)?;
    Ok(vec![
        Goal::at_most(2.0, "x", GOAL_RESTORE, ratios[0]),
        Goal::at_most(10.0, "x", GOAL_FORK, ratios[1]),
        Goal::at_most(4.0, "x", GOAL_MEMORY, memory),
    ])
}

/// What ten have of the host's memory, of what one has.
fn memory(bench: &Bench, source: &Source<'_>) -> Result<f64> {
    let pss = |count| -> Result<f64> {
        let (forks, _) = Forks::make(bench, source, count)?;
        forks.pss()
    };
    let [one, ten] = [pss("1")?, pss(COPIES)?];
    println!("\n{:<38}{:>26}{:>26}", "forks, PSS of engines in MiB", "one", "ten");
    println!("{:<38}{one:>26.1}{ten:>26.1}", "busybox, 256 MiB");
    println!("{:<38}{:>26}{:>26.2}", "ratio", "", ten / one);
    Ok(ten / one)
}

/// Restores where nothing is ready to go on from but what is on disk, and those after that.
fn evicted(bench: &Bench, source: &Source<'_>) -> Result<()> {
    let (mut none, mut made) = (Sample::default(), Sample::default());
    for _ in 0..bench.times {
        bench.forget_templates()?;
        none.add(source.restore(TAG)?);
        made.add(source.restore(TAG)?);
    }
    println!("\n{:<38}{:>26}{:>26}", "restores, in ms", "no capture was there", "the next");
    println!("{:<38}{:>26}{:>26}", "busybox, 256 MiB", none.to_string(), made.to_string());
    Ok(())
}

/// Workspaces that went on from a snapshot. They are removed with this value.
struct Forks<'a> {
    bench: &'a Bench,
    names: Vec<String>,
}

impl<'a> Forks<'a> {
    /// Makes some, and says how many milliseconds it took until each had run a command.
    fn make(bench: &'a Bench, source: &Source<'_>, count: &str) -> Result<(Forks<'a>, f64)> {
        let from = format!("{}:{TAG}", source.name());
        let begun = Instant::now();
        let made = bench.json(["--json", "snapshot", "fork", &from, "--count", count])?;
        let names = made["forks"].as_array().into_iter().flatten();
        let names = names.filter_map(|fork| Some(fork["workspace"].as_str()?.to_owned())).collect();
        let forks = Forks { bench, names };
        forks.all_answer()?;
        Ok((forks, milliseconds_since(begun)))
    }

    /// Runs a command in each, all at once.
    fn all_answer(&self) -> Result<()> {
        let start = |name: &String| {
            let mut command = self.bench.microagent.command(["exec", name, "--", "true"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(tool::start(&command))
        };
        let answering = self.names.iter().map(start).collect::<Result<Vec<Child>>>()?;
        for mut exec in answering {
            let status = exec.wait().map_err(Error::file("wait for", self.bench.microagent.program()))?;
            if !status.success() {
                return Err(Error::Tool { line: "microagent exec".to_owned(), status });
            }
        }
        Ok(())
    }

    /// The share of memory that their engines have together, in MiB.
    fn pss(&self) -> Result<f64> {
        self.names.iter().map(|name| self.pss_of(name)).sum()
    }

    fn pss_of(&self, name: &str) -> Result<f64> {
        let status = self.bench.json(["--json", "status", name])?;
        let unexpected = |wanted| Error::Unexpected { line: format!("microagent status {name}"), wanted };
        let pid = status.pointer("/readiness/running/engine_pid").ok_or_else(|| unexpected("engine"))?;
        let rollup = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
        let text = fs::read_to_string(&rollup).map_err(Error::file("read", &rollup))?;
        let kib =
            text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).ok_or_else(|| unexpected("engine with memory"))
    }
}

impl Drop for Forks<'_> {
    fn drop(&mut self) {
        let names = self.names.iter().map(String::as_str);
        let arguments = ["delete", "--yes", "--force"].into_iter().chain(names);
        // What cannot be removed is removed with the state directory.
        let _ = tool::capture(&mut self.bench.microagent.command(arguments));
    }
}
