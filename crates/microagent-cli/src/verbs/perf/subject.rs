//! Flags of every measurement: the machine that is measured.

use crate::completion;
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::{Command, RunOptions, Templates};
use std::path::PathBuf;
use std::time::Duration;

/// Which machine.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Machine")]
pub(super) struct SubjectArgs {
    /// Image to run
    #[arg(long, value_name = "REF", add = ArgValueCandidates::new(completion::images))]
    image: String,
    /// Resource profile: tiny, small, medium or large
    #[arg(long, value_name = "NAME", default_value = "small", add = ArgValueCandidates::new(completion::profiles))]
    profile: String,
    /// Memory in MiB, or a size as in `512m` or `1g` [default: the profile's]
    #[arg(long, value_name = "MIB", value_parser = quantity::parse_memory_mib)]
    memory: Option<u32>,
    /// Number of CPUs [default: the profile's]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// linux-kvm or linux-tcg [default: the best this host has]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Kernel image to boot [default: the installed one]
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Kill a machine after this many seconds, or a time as in `5s` or `2m`
    #[arg(long, value_name = "SECONDS", value_parser = quantity::parse_duration)]
    timeout: Option<Duration>,
}

impl SubjectArgs {
    /// The library's options for a run of the shell line `exec`.
    pub(super) fn options(&self, exec: &str, templates: Templates) -> RunOptions {
        let mut options = RunOptions {
            command: Command::Shell(exec.to_owned()),
            timeout: self.timeout,
            ..RunOptions::new(self.image.as_str())
        };
        let workspace = &mut options.workspace;
        workspace.profile.clone_from(&self.profile);
        workspace.memory_mib = self.memory;
        workspace.cpus = self.cpus;
        workspace.backend.clone_from(&self.backend);
        workspace.kernel.clone_from(&self.kernel);
        workspace.templates = templates;
        options
    }
}
