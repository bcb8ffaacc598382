//! The command line of the developer's tasks: see the library for what they do.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use xtask::kvm_lab::Lab;
use xtask::packages::Purpose;
use xtask::{Error, Result, setup};

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
    /// Run a command in an emulated machine that has KVM
    KvmLab(KvmLab),
}

#[derive(Args)]
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
        lab.run(self.command).map(ExitCode::from)
    }
}

fn chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
