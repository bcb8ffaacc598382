//! The flags that say what a workspace is, for every verb that makes one.
//!
//! Every flag is optional, and what is not given is left as it was: what a specification file says holds until a flag says otherwise.

mod disks;
pub(in crate::verbs) mod environment;
pub(in crate::verbs) mod file;
pub(in crate::verbs) mod network;
pub(in crate::verbs) mod secrets;
pub(in crate::verbs) mod setup;

use crate::completion;
use crate::error::Error;
use crate::quantity;
use crate::verbs::image::source::SourceArgs;
use clap_complete::ArgValueCandidates;
use disks::DiskArgs;
use environment::Variables;
use microagent::{ForwardRecord, WorkspaceOptions};
use network::NetworkArgs;
use secrets::SecretArgs;
use setup::SetupSteps;
use std::path::PathBuf;
use std::time::Duration;

/// What a workspace is.
#[derive(clap::Args, Debug)]
pub(in crate::verbs) struct Definition {
    #[command(flatten)]
    pub(in crate::verbs) source: SourceArgs,
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    pub(in crate::verbs) machine: MachineArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    secrets: SecretArgs,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    keeping: KeepingArgs,
}

/// What its commands find.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Command")]
struct GuestArgs {
    /// Replace the image's entry point
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    entrypoint: Option<String>,
    #[command(flatten)]
    setup: SetupSteps,
    #[command(flatten)]
    variables: Variables,
    /// Directory commands start in [default: the image's]
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// User commands run as [default: the image's]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
}

/// What it runs on.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Machine")]
pub(in crate::verbs) struct MachineArgs {
    /// Resource profile: tiny, small, medium or large [default: small]
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completion::profiles))]
    profile: Option<String>,
    /// Memory in MiB, or a size as in `512m` or `1g` [default: the profile's]
    #[arg(long, value_name = "MIB", value_parser = quantity::parse_memory_mib)]
    memory: Option<u32>,
    /// Number of CPUs [default: the profile's]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Size of the writable disk in MiB, or a size as in `8g` [default: the profile's]
    #[arg(long, value_name = "MIB", value_parser = quantity::parse_mib)]
    size_mib: Option<u64>,
    /// Least room on the writable disk in MiB, where its size is not given; the image takes none of it
    #[arg(long, value_name = "MIB", value_parser = quantity::parse_mib)]
    headroom_mib: Option<u64>,
    /// Guest host name [default: made of the workspace's name]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// linux-kvm or linux-tcg [default: the best this host has]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Boot the kernel, without using or making a template [env: MICROAGENT_TEMPLATES=off]
    #[arg(long)]
    pub(in crate::verbs) cold: bool,
    /// Kernel image to boot [default: the installed one]
    #[arg(long, value_name = "PATH")]
    pub(in crate::verbs) kernel: Option<PathBuf>,
    /// Guest agent binary, instead of the embedded one
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    pub(in crate::verbs) guest_init: Option<PathBuf>,
    /// `mke2fs` program that formats the writable disk, instead of the built-in writer
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    mke2fs: Option<PathBuf>,
}

/// What it is when it is kept.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Workspace")]
struct KeepingArgs {
    /// Name of the workspace [default: generated]
    #[arg(long, visible_alias = "id", value_name = "NAME")]
    name: Option<String>,
    /// Restart policy, which `supervise` enforces: never, on-failure or always [default: never]
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Shell for interactive sessions [default: /bin/sh]
    #[arg(long, value_name = "PATH")]
    shell: Option<String>,
    /// Guest path that is an artifact; repeatable
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_output)]
    output: Vec<(String, String)>,
    /// Halt the workspace this long after its start, as in `90`, `30m` or `12h`
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    ttl: Option<Duration>,
}

impl Definition {
    /// The name that is given as a flag.
    pub(in crate::verbs) fn name(&self) -> Option<&str> {
        self.keeping.name.as_deref()
    }

    /// The ports of this host that lead into it.
    pub(in crate::verbs) fn forwards(&self) -> Result<Vec<ForwardRecord>, Error> {
        self.network.forwards()
    }

    /// Whether an entry point is given.
    pub(in crate::verbs) fn has_entrypoint(&self) -> bool {
        self.guest.entrypoint.is_some()
    }

    /// Overrides what is given.
    pub(in crate::verbs) fn apply(&self, options: &mut WorkspaceOptions) -> Result<(), Error> {
        let Definition { source, guest, machine, network, secrets, disks, keeping } = self;
        network.apply(&mut options.network)?;
        secrets.apply(&mut options.secrets)?;
        options.platform = source.platform()?;
        options.pull = source.pull_options()?;
        or(&mut options.entrypoint, guest.entrypoint.as_ref());
        let setup = guest.setup.lines()?;
        if !setup.is_empty() {
            options.setup = setup;
        }
        options.env.extend(environment::collect(&guest.variables)?);
        or(&mut options.workdir, guest.workdir.as_ref());
        or(&mut options.user, guest.user.as_ref());
        set(&mut options.profile, machine.profile.as_ref());
        or(&mut options.memory_mib, machine.memory.as_ref());
        or(&mut options.cpus, machine.cpus.as_ref());
        or(&mut options.size_mib, machine.size_mib.as_ref());
        or(&mut options.headroom_mib, machine.headroom_mib.as_ref());
        or(&mut options.hostname, machine.hostname.as_ref());
        or(&mut options.backend, machine.backend.as_ref());
        or(&mut options.kernel, machine.kernel.as_ref());
        or(&mut options.guest_init, machine.guest_init.as_ref());
        or(&mut options.mke2fs, machine.mke2fs.as_ref());
        options.disks = disks.add_to(std::mem::take(&mut options.disks))?;
        or(&mut options.name, keeping.name.as_ref());
        set(&mut options.restart, keeping.restart.as_ref());
        set(&mut options.shell, keeping.shell.as_ref());
        or(&mut options.ttl, keeping.ttl.as_ref());
        options.outputs.extend(keeping.output.iter().cloned());
        Ok(())
    }
}

fn set<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}

fn or<T: Clone>(field: &mut Option<T>, given: Option<&T>) {
    if given.is_some() {
        *field = given.cloned();
    }
}

fn parse_output(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) => Ok((name.to_owned(), path.to_owned())),
        None if matches!(text, "json" | "text") => Err(format!(
            "an artifact is `NAME=/path`; the format stands before the verb: `microagent --output {text} run ...`"
        )),
        None => Err("an artifact is `NAME=/path`".to_owned()),
    }
}
