//! `cargo xtask bench`: what a first run costs, what is stored, and how pulling compares with podman's.
//!
//! Figures of one run on one machine: each is the median of several measurements, and the load is stated, because a
//! busy machine makes every figure larger. Comparisons are measured in turns, so that both sides see the same load.

mod sample;
mod storage;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::images::DEBIAN_PYTHON;
use crate::packages::Purpose;
use crate::product::Product;
use crate::registry::Registry;
use crate::workspace::Build;
use crate::{Error, Result, setup, tool, workspace};
use sample::Sample;
use storage::Store;

/// How often everything is measured, unless it is to be quick.
const TIMES: usize = 9;
const TIMES_QUICK: usize = 3;

/// The phases of a run: the field of the result's `timing` and what it is.
const PHASES: [(&str, &str); 7] = [
    ("kernel_ms", "find the kernel, make the initramfs"),
    ("image_ms", "pull the image, build its base"),
    ("workspace_ms", "make the workspace"),
    ("boot_ms", "boot to the agent, disks mounted"),
    ("command_ms", "command"),
    ("teardown_ms", "teardown"),
    ("total_ms", "all of it"),
];

/// Measures and prints.
pub fn run(quick: bool) -> Result<()> {
    setup::run(Purpose::All)?;
    let microagent = Product::build(Build::Release, workspace::cache("bench")?)?;
    microagent.install_kernel()?;
    let registry = Registry::serve(&[&DEBIAN_PYTHON])?;
    let image = registry.reference(&DEBIAN_PYTHON, "12");
    let bench = Bench { microagent: &microagent, image: &image };

    let times = if quick { TIMES_QUICK } else { TIMES };
    let load_before = load()?;
    let measured = bench.measure(times)?;
    println!("\nMedian of {times}, smallest and largest in brackets; load {load_before} before and {} after.", load()?);
    measured.print();
    storage::print(microagent.program(), measured.base)
}

struct Bench<'a> {
    /// With a state directory that has nothing but a kernel.
    microagent: &'a Product,
    image: &'a str,
}

/// Everything measured.
struct Measured {
    cold: Vec<Sample>,
    again: Vec<Sample>,
    pull: Sample,
    podman: Sample,
    /// Size of the base image, in bytes.
    base: u64,
}

impl Bench<'_> {
    fn measure(&self, times: usize) -> Result<Measured> {
        let phases = || PHASES.map(|_| Sample::default()).to_vec();
        let (cold, again) = (phases(), phases());
        let mut measured = Measured { cold, again, pull: Sample::default(), podman: Sample::default(), base: 0 };
        for _ in 0..times {
            let state = Store::with_kernel(self.microagent.state())?;
            let result = self.run(&state)?;
            record(&mut measured.cold, &result)?;
            record(&mut measured.again, &self.run(&state)?)?;
            measured.base = base_size(&result)?;

            let state = Store::new()?;
            let microagent = self.microagent.with_state(state.path());
            measured.pull.time(&mut microagent.command(["image", "pull", self.image]))?;

            let store = Store::new()?;
            let mut podman = Command::new("podman");
            podman.arg("--root").arg(store.path().join("root")).arg("--runroot").arg(store.path().join("run"));
            podman.args(["--storage-driver=overlay", "pull", "--quiet", "--tls-verify=false", self.image]);
            measured.podman.time(&mut podman)?;
        }
        Ok(measured)
    }

    /// Runs a command that does nothing, and returns the report.
    fn run(&self, state: &Store) -> Result<Value> {
        let mut command = self.microagent.with_state(state.path()).command(["--json", "run", self.image, "true"]);
        let printed = tool::capture(&mut command)?;
        let report: Option<Value> = serde_json::from_str(&printed).ok();
        report.ok_or(Error::Unexpected { line: tool::line(&command), wanted: "JSON document" })
    }
}

impl Measured {
    fn print(&self) {
        println!("\n{:<38}{:>26}{:>26}", "run IMAGE true, in ms", "image not here", "image here");
        for (position, (_, what)) in PHASES.iter().enumerate() {
            println!("{what:<38}{:>26}{:>26}", self.cold[position].to_string(), self.again[position].to_string());
        }
        println!("\n{:<38}{:>26}{:>26}", "pull and unpack, in ms", "microagent", "podman (overlay)");
        println!("{:<38}{:>26}{:>26}", "into an empty store", self.pull.to_string(), self.podman.to_string());
        println!("{:<38}{:>26.2}", "ratio of the medians", self.pull.median() / self.podman.median());
    }
}

/// Adds each phase of the run that `report` tells of.
fn record(phases: &mut [Sample], report: &Value) -> Result<()> {
    for (sample, (field, _)) in phases.iter_mut().zip(PHASES) {
        let milliseconds = report["timing"][field].as_f64();
        sample.add(milliseconds.ok_or(Error::Unexpected { line: "microagent --json run".into(), wanted: "`timing`" })?);
    }
    Ok(())
}

fn base_size(report: &Value) -> Result<u64> {
    let path = Path::new(report["base_path"].as_str().unwrap_or_default());
    Ok(fs::metadata(path).map_err(Error::file("look at", path))?.len())
}

/// The processes that wanted to run, averaged over the last minute.
fn load() -> Result<String> {
    let averages = fs::read_to_string("/proc/loadavg").map_err(Error::file("read", "/proc/loadavg"))?;
    Ok(averages.split(' ').next().unwrap_or_default().to_owned())
}
