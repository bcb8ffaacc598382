//! The command line of the developer's tasks: see the library for what they do.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use xtask::images::RECIPES;
use xtask::kvm_lab::{InLab, Lab};
use xtask::packages::Purpose;
use xtask::registry::Registry;
use xtask::workspace::Build;
use xtask::{Error, Result, bench, demo, fuzz, setup, suite};

/// The tasks of a developer of microagent.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the packages of others that a task needs, if any is missing
    Setup {
        /// What is to be done with them
        #[arg(default_value = "all")]
        purpose: Purpose,
    },
    /// Boot a microVM from an image made and served here, and tell what happens
    Demo,
    /// Run every test
    Test,
    /// Check format, lints, documentation, licences and dependencies
    Lint,
    /// Measure, and print the figures
    Bench {
        /// Measure 3 times instead of 9
        #[arg(long)]
        quick: bool,
        /// What to measure [default: everything]
        sections: Vec<bench::Section>,
    },
    /// Run every fuzz target for a while
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Make the images of the tests and the demo, those that are missing
    Images,
    /// Serve the images from a real registry until interrupted
    Registry,
    /// Run a command in an emulated machine that has KVM
    KvmLab(KvmLab),
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
struct KvmLab {
    /// Memory of the machine, in MiB
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Seconds after which the machine is stopped
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// The command, which sees this host's files and may change its own copy of them
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
    #[command(subcommand)]
    product: Option<Product>,
}

#[derive(Subcommand)]
enum Product {
    /// Run `microagent doctor`, which finds a KVM that works
    Doctor,
    /// Boot a microVM on real KVM and run `uname -a` in it
    Run,
}

fn main() -> ExitCode {
    match Arguments::parse().task.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

impl Task {
    fn run(self) -> Result<ExitCode> {
        match self {
            Task::Setup { purpose } => setup::run(purpose)?,
            Task::Demo => demo::run()?,
            Task::Test => suite::test()?,
            Task::Lint => suite::lint()?,
            Task::Bench { quick, sections } => bench::run(quick, &sections)?,
            Task::Fuzz { seconds } => fuzz::run(seconds)?,
            Task::Images => images()?,
            Task::Registry => registry()?,
            Task::KvmLab(lab) => return lab.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl KvmLab {
    fn run(self) -> Result<ExitCode> {
        let mut lab = Lab::prepare()?;
        if let Some(mib) = self.memory {
            lab = lab.memory_mib(mib);
        }
        if let Some(seconds) = self.deadline {
            lab = lab.deadline(Duration::from_secs(seconds));
        }
        let command = match self.product {
            None => self.command,
            Some(Product::Doctor) => InLab::prepare(Build::Release)?.doctor(),
            Some(Product::Run) => InLab::prepare(Build::Release)?.run(&["uname", "-a"]),
        };
        lab.run(command).map(ExitCode::from)
    }
}

fn images() -> Result<()> {
    for recipe in RECIPES {
        let layout = recipe.prepare()?;
        for tag in recipe.tags {
            println!("{}:{tag}\t{}", recipe.name, layout.reference(tag));
        }
    }
    Ok(())
}

fn registry() -> Result<()> {
    let registry = Registry::serve(&RECIPES)?;
    for recipe in RECIPES {
        for tag in recipe.tags {
            println!("{}", registry.reference(recipe, tag));
        }
    }
    registry.wait()
}

fn chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
