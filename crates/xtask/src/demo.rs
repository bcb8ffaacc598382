//! `cargo xtask demo`: from a clone to a real microVM, telling what happens and how long it takes.
//!
//! Everything it makes stays in the cache (`.cache/demo-state` is its state directory), so the second time there is
//! nothing to install, build, bootstrap or pull.

use std::time::Instant;

use crate::images::DEBIAN_PYTHON;
use crate::packages::Purpose;
use crate::product::Product;
use crate::registry::Registry;
use crate::workspace::Build;
use crate::{Result, setup, tool, workspace};

/// What is run in a microVM each, and what it shows.
const RUNS: [(&str, &[&str]); 3] = [
    ("Boot the image and ask for the kernel: it is the guest's own, not this host's", &["uname", "-a"]),
    ("Boot it again and ask which system it is: the image's own files", &["cat", "/etc/os-release"]),
    ("Boot it once more and let the image's Python calculate", &["python3", "-c", "print(2**100)"]),
];

/// Shows the main thing that the product does.
pub fn run() -> Result<()> {
    let mut story = Story { steps: 0, begun: Instant::now() };
    story.step("Install what is missing on this host", || setup::run(Purpose::Demo))?;
    let microagent = story.step("Build microagent as users get it", || {
        let state = workspace::cache("demo-state")?;
        Product::build(Build::Release, state)
    })?;
    story.step("Make a Debian image with Python in it", || DEBIAN_PYTHON.prepare())?;
    let registry = story.step("Serve it from a registry on this host", || Registry::serve(&[&DEBIAN_PYTHON]))?;
    let image = registry.reference(&DEBIAN_PYTHON, "12");
    story.step("Get a guest kernel, once", || microagent.install_kernel())?;
    story
        .step("Ask whether this host can run microVMs, and how", || tool::show(&mut microagent.command(["doctor"])))?;
    for (what, command) in RUNS {
        let run = ["run", "--propagate-exit-code", &image];
        story.step(what, || tool::show(&mut microagent.command(run.iter().chain(command))))?;
    }
    println!("\nAll of it took {:.1} s. Nothing is left running.", story.begun.elapsed().as_secs_f64());
    Ok(())
}

/// Tells the steps as they are taken.
struct Story {
    steps: u32,
    begun: Instant,
}

impl Story {
    fn step<T>(&mut self, what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.steps += 1;
        println!("\n{}. {what}", self.steps);
        let begun = Instant::now();
        let made = act()?;
        println!("   ({:.1} s)", begun.elapsed().as_secs_f64());
        Ok(made)
    }
}
