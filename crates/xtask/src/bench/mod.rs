//! `cargo xtask bench`: what runs cost, where their time goes, and how that compares with peers.
//!
//! Figures of one run on one machine: each is the median of several measurements, and the load is stated, because a
//! busy machine makes every figure larger. Sides that are compared are measured in turns, in an order that alternates,
//! so that both see the same load. What is promised is a goal, and the last table says which were met.
//!
//! | section | what is measured | against |
//! |---|---|---|
//! | `warm` | whole runs, prompt to prompt, restored from a template | `podman run`, with and without a network |
//! | `cold` | the first run, which makes the template | a plain QEMU that boots the same kernel to `/init` |
//! | `together` | eight warm runs at once | one |
//! | `phases` | warm and cold runs, phase by phase; commands in one machine | the guest's own `fork` and `exec` |
//! | `workspace` | commands in a workspace that runs, files in and out of it | the stream alone; the guest's own `tar` |
//! | `network` | a stream, connections, names, TLS that is looked into, idle connections | QEMU's own network; the host's resolver; TLS that is not |
//! | `snapshot` | the pause of a source, restoring it, ten forks, memory and disk | a warm run; one restore; one fork; what has changed |
//! | `memory` | ten restored machines that idle | one |
//! | `written` | what a run writes to disk | a mebibyte |
//! | `pull` | pulling and unpacking an image | `podman pull` |
//! | `sizes` | programs and images | |

mod cold;
mod goal;
mod host;
mod memory;
mod network;
mod phases;
mod plain;
mod podman;
mod pull;
mod sample;
mod sizes;
mod snapshot;
mod store;
mod together;
mod warm;
mod workspace;
mod written;

use serde_json::Value;

use crate::images::{BUSYBOX, DEBIAN_PYTHON};
use crate::packages::Purpose;
use crate::product::Product;
use crate::registry::Registry;
use crate::workspace::{self as repository, Build};
use crate::{Error, Result, setup, tool};
use goal::Goal;
use store::Store;

/// How often everything is measured, unless it is to be quick.
const TIMES: usize = 9;
const TIMES_QUICK: usize = 3;

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// Warm runs against podman
    Warm,
    /// First runs against a plain QEMU
    Cold,
    /// Eight runs at once against one
    Together,
    /// Runs phase by phase, and commands in one machine
    Phases,
    /// Commands and files of a workspace that runs
    Workspace,
    /// A guest's network against QEMU's own
    Network,
    /// Taking snapshots and going on from them
    Snapshot,
    /// Memory of machines that idle
    Memory,
    /// What a run writes to disk
    Written,
    /// Pulling against podman
    Pull,
    /// Sizes of programs and images
    Sizes,
}

impl Section {
    const ALL: [Section; 11] = [
        Section::Warm,
        Section::Cold,
        Section::Together,
        Section::Phases,
        Section::Workspace,
        Section::Network,
        Section::Snapshot,
        Section::Memory,
        Section::Written,
        Section::Pull,
        Section::Sizes,
    ];

    fn measure(self, bench: &Bench) -> Result<Vec<Goal>> {
        match self {
            Section::Warm => warm::measure(bench),
            Section::Cold => cold::measure(bench),
            Section::Together => together::measure(bench),
            Section::Phases => phases::measure(bench),
            Section::Workspace => workspace::measure(bench),
            Section::Network => network::measure(bench),
            Section::Snapshot => snapshot::measure(bench),
            Section::Memory => memory::measure(bench),
            Section::Written => written::measure(bench),
            Section::Pull => pull::measure(bench),
            Section::Sizes => sizes::measure(bench).map(|()| Vec::new()),
        }
    }
}

/// Measures `sections`, or all of them if none is named, and prints figures and goals.
pub fn run(quick: bool, sections: &[Section]) -> Result<()> {
    setup::run(Purpose::All)?;
    let bench = Bench::prepare(if quick { TIMES_QUICK } else { TIMES })?;
    println!("\n{}", host::describe()?);
    println!("Times are medians of {}, the smallest and the largest in brackets.", bench.times);
    let sections = if sections.is_empty() { &Section::ALL } else { sections };
    let mut goals = Vec::new();
    for section in sections {
        let before = host::load()?;
        goals.extend(section.measure(&bench)?);
        println!("(load {before} before, {} after)", host::load()?);
    }
    goal::print(&goals);
    Ok(())
}

/// What all sections measure with.
struct Bench {
    /// With a state directory of its own that has a kernel and both images.
    microagent: Product,

    /// The smallest image: nothing in it costs anything.
    busybox: String,
    /// A real distribution.
    debian: String,
    times: usize,
    state: Store,
    /// Serves the images as long as anything is measured.
    _registry: Registry,
}

impl Bench {
    fn prepare(times: usize) -> Result<Bench> {
        let microagent = Product::build(Build::Release, repository::cache("bench")?)?;
        microagent.install_kernel()?;
        let registry = Registry::serve(&[&BUSYBOX, &DEBIAN_PYTHON])?;
        let state = Store::with_kernel(microagent.state())?;
        let bench = Bench {
            // What goes on in the background after a first run would be measured with whatever comes next.
            microagent: microagent.with_state(state.path()).with_environment("MICROAGENT_REHEARSAL", "off"),
            busybox: registry.reference(&BUSYBOX, "1"),
            debian: registry.reference(&DEBIAN_PYTHON, "12"),
            times,
            state,
            _registry: registry,
        };
        for image in [&bench.busybox, &bench.debian] {
            tool::capture(&mut bench.microagent.command(["image", "pull", image]))?;
        }
        Ok(bench)
    }

    /// Runs `true` in `image` and returns the report.
    fn run(&self, image: &str) -> Result<Value> {
        self.json(["--json", "run", image, "true"])
    }

    /// Runs the program and returns the document it printed.
    fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Value> {
        let mut command = self.microagent.command(arguments);
        let printed = tool::capture(&mut command)?;
        let document = serde_json::from_str(&printed).ok();
        document.ok_or(Error::Unexpected { line: tool::line(&command), wanted: "JSON document" })
    }

    /// Sees that machines are restored from a template that has rehearsed, as they are from a few seconds after the first run on.
    fn warm_up(&self) -> Result<()> {
        tool::capture(&mut self.microagent.command(["template", "prepare"])).map(drop)
    }

    /// Removes every template, so that the next run is a first one.
    fn forget_templates(&self) -> Result<()> {
        tool::capture(&mut self.microagent.command(["template", "prune", "--all"])).map(drop)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The memory of templates may lie outside of the state directory, which alone is removed with it.
        let _ = self.forget_templates();
    }
}
