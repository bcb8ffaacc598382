//! Checking what was asked, before anything is done about it.

use crate::spec::NetworkMode;
use crate::{Command, CreateOptions, Error, FileSpec, Profile, RunOptions, Service, WorkspaceOptions, network};
use microagent_egress::Rules;
use microagent_image::{ImageConfig, Platform, Reference};
use microagent_intercept::SwapConfig;
use microagent_machine::engine::Accelerator;
use microagent_state::{DiskRecord, ForwardRecord, MediationRecord, Name, Resources, SecretsRecord, WorkspaceRecord};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A guest with less cannot unpack its own kernel and start the agent.
const MIN_MEMORY_MIB: u64 = 96;
/// Far above any host; keeps a slip of the keyboard from reaching the engine.
const MAX_MEMORY_MIB: u64 = 4 << 20;
/// QEMU's limit for `microvm` machines.
const MAX_CPUS: u64 = 288;
/// The smallest ext4 with a journal.
const MIN_SIZE_MIB: u64 = 16;
/// ext4 with 4 KiB blocks ends at 16 TiB.
const MAX_SIZE_MIB: u64 = 16 << 20;
/// Longest host name Linux takes (`HOST_NAME_MAX`).
const MAX_HOSTNAME: usize = 64;
/// Longest single argument Linux takes (`MAX_ARG_STRLEN`), less its terminating zero.
const MAX_LINE: usize = (128 << 10) - 1;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A run or a workspace that was found to make sense, offline: what `--dry-run` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Name of the workspace.
    pub workspace: Name,
    /// The image, in full; absent where there is a root file system instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Reference>,
    /// The root file system that takes the place of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<PathBuf>,
    /// Architecture of image and guest.
    pub platform: Platform,
    /// Name of the profile.
    pub profile: &'static str,
    /// Size of the machine.
    pub resources: Resources,
    /// Network mode.
    pub network: &'static str,
    /// Ports of the host that lead into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<ForwardRecord>,
    /// What may leave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Rules>,
    /// Credentials that are put into its requests.
    #[serde(skip_serializing_if = "SwapConfig::is_empty")]
    pub swaps: SwapConfig,
    /// Services of the host that it reaches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mediations: Vec<MediationRecord>,
    /// Secrets it is given, by reference.
    #[serde(skip_serializing_if = "SecretsRecord::is_empty")]
    pub secrets: SecretsRecord,
    /// Restart policy.
    pub restart: String,
    /// Guest host name.
    pub hostname: String,
    /// Environment on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Set-up lines.
    pub setup: Vec<String>,
    /// The command of a run, as far as it is known without the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<PlannedCommand>,
    /// The command of every start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<PlannedCommand>,
    /// Disks besides its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskRecord>,
    /// Guest paths that are artifacts, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Files of the host that are put into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// What the caller takes it for.
    pub role: String,
    /// Backend asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Kernel asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// Milliseconds after which the machine is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether the workspace outlives the command.
    pub keep: bool,
}

/// The command before the image is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedCommand {
    /// Exactly these words.
    Argv(Vec<String>),
    /// The image's entry point, followed by these words, or by the image's own command when there are none.
    ImageEntrypoint(Vec<String>),
}

impl Plan {
    /// Checks a run, without touching the network, the state directory or the image.
    pub fn of_run(options: &RunOptions) -> Result<Plan, Error> {
        let workspace = &options.workspace;
        let plan = Plan::of_workspace(workspace, "run")?;
        Ok(Plan {
            command: Some(planned_command(&options.command, workspace.entrypoint.as_deref())?),
            timeout_ms: options.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            keep: options.keep,
            ..plan
        })
    }

    /// Checks a workspace that is to be kept, in the same way.
    pub fn of_create(options: &CreateOptions) -> Result<Plan, Error> {
        let workspace = &options.workspace;
        let entrypoint = workspace.entrypoint.as_deref();
        let service = match &options.service {
            Service::Entrypoint if entrypoint.is_none() => None,
            Service::Entrypoint | Service::Image => Some(planned_command(&Command::Image, entrypoint)?),
            Service::Shell(line) => Some(planned_command(&Command::Shell(line.clone()), entrypoint)?),
        };
        if workspace.rootfs.is_some() && matches!(service, Some(PlannedCommand::ImageEntrypoint(_))) {
            return Err(Error::BadOption {
                option: "--image-command",
                value: "true".to_owned(),
                reason: "a root file system has no command of its own".to_owned(),
            });
        }
        Ok(Plan { service, keep: true, ..Plan::of_workspace(workspace, "workspace")? })
    }

    fn of_workspace(options: &WorkspaceOptions, prefix: &str) -> Result<Plan, Error> {
        let workspace = match &options.name {
            Some(name) => Name::new(name.as_str())?,
            None => Name::generate(prefix),
        };
        let hostname = options.hostname.clone().unwrap_or_else(|| workspace.to_hostname());
        check_hostname(&hostname)?;
        if options.platform != Platform::host() {
            return Err(Error::ForeignPlatform { platform: options.platform.to_string() });
        }
        if let Some(backend) = &options.backend {
            backend.parse::<Accelerator>()?;
        }
        check_restart(&options.restart)?;
        options.env.iter().try_for_each(check_variable)?;
        options.setup.iter().try_for_each(|line| check_text("--setup", line))?;
        options.outputs.iter().try_for_each(check_output)?;
        check_guest_path("--shell", &options.shell)?;
        check_text("--role", &options.role)?;
        options.files.iter().try_for_each(check_file)?;
        let network = &options.network;
        let rules = network.check()?;
        network.check_environment(&options.env)?;
        let profile = Profile::named(&options.profile)?;
        let size_mib = options.size_mib.or(options.headroom_mib.map(|room| room.max(profile.size_mib)));
        let image = match options.rootfs {
            Some(_) => None,
            None => Some(options.image.parse()?),
        };
        Ok(Plan {
            hostname,
            workspace,
            image,
            rootfs: options.rootfs.clone(),
            platform: options.platform,
            profile: profile.name,
            resources: check_resources(profile, options.memory_mib, options.cpus, size_mib)?,
            network: network.mode.name(),
            forwards: network.forwards.clone(),
            egress: (network.mode == NetworkMode::User).then_some(rules),
            swaps: network.swaps.clone(),
            mediations: network.mediations.clone(),
            secrets: options.secrets.check()?,
            restart: options.restart.clone(),
            env: options.env.clone(),
            setup: options.setup.clone(),
            command: None,
            service: None,
            disks: options.disks.clone(),
            outputs: options.outputs.clone(),
            files: options.files.clone(),
            role: options.role.clone(),
            backend: options.backend.clone(),
            kernel: options.kernel.clone(),
            timeout_ms: None,
            keep: false,
        })
    }

    /// The words of one of its commands, now that the image is known.
    pub(crate) fn argv(&self, command: &PlannedCommand, config: &ImageConfig) -> Result<Vec<String>, Error> {
        let argv = match command {
            PlannedCommand::Argv(argv) => argv.clone(),
            PlannedCommand::ImageEntrypoint(arguments) => {
                let rest = if arguments.is_empty() { &config.cmd } else { arguments };
                config.entrypoint.iter().chain(rest).cloned().collect()
            }
        };
        let image = || self.image.as_ref().map(Reference::familiar).unwrap_or_default();
        if argv.is_empty() { Err(Error::NoCommand { image: image() }) } else { Ok(argv) }
    }
}

/// The whole environment of a workspace's commands: the image's, overridden by what its network takes, overridden by the caller's.
pub(crate) fn environment(record: &WorkspaceRecord, own: &BTreeMap<String, String>) -> Vec<String> {
    let mut all = network::variables(record);
    all.extend(own.clone());
    combine(&record.image_env, &all)
}

fn combine(images: &[String], own: &BTreeMap<String, String>) -> Vec<String> {
    let key = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
    let mut env: Vec<String> = images.iter().filter(|pair| !own.contains_key(&key(pair))).cloned().collect();
    env.extend(own.iter().map(|(key, value)| format!("{key}={value}")));
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.push(DEFAULT_PATH.to_owned());
    }
    env
}

/// A line run by the image's shell.
pub(crate) fn shell_line(line: &str) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()]
}

fn planned_command(command: &Command, entrypoint: Option<&str>) -> Result<PlannedCommand, Error> {
    let words = entrypoint.map(|text| split("--entrypoint", text)).transpose()?;
    let planned = match (command, words) {
        (Command::Shell(line), None) => {
            check_text("--exec", line)?;
            PlannedCommand::Argv(shell_line(line))
        }
        (Command::Shell(line), Some(_)) => {
            return Err(Error::BadOption {
                option: "--entrypoint",
                value: entrypoint.unwrap_or_default().to_owned(),
                reason: format!("the shell line `{line}` is run past any entry point"),
            });
        }
        (Command::Image, None) => PlannedCommand::ImageEntrypoint(Vec::new()),
        (Command::Arguments(words), None) => PlannedCommand::ImageEntrypoint(words.clone()),
        (Command::Image, Some(entrypoint)) => PlannedCommand::Argv(entrypoint),
        (Command::Arguments(words), Some(mut entrypoint)) => {
            entrypoint.extend_from_slice(words);
            PlannedCommand::Argv(entrypoint)
        }
    };
    let (PlannedCommand::Argv(words) | PlannedCommand::ImageEntrypoint(words)) = &planned;
    words.iter().try_for_each(|word| check_text("command", word))?;
    Ok(planned)
}

fn split(option: &'static str, text: &str) -> Result<Vec<String>, Error> {
    let bad = |reason: &str| Error::BadOption { option, value: text.to_owned(), reason: reason.to_owned() };
    let words = shell_words::split(text).map_err(|_| bad("a quote is not closed"))?;
    if words.is_empty() { Err(bad("it is empty")) } else { Ok(words) }
}

/// The size of a machine: the profile's, where nothing else is given.
pub(crate) fn check_resources(
    profile: Profile,
    memory_mib: Option<u32>,
    cpus: Option<u32>,
    size_mib: Option<u64>,
) -> Result<Resources, Error> {
    let memory = memory_mib.unwrap_or(profile.memory_mib);
    let cpus = cpus.unwrap_or(profile.cpu_count);
    let size = size_mib.unwrap_or(profile.size_mib);
    check_range("--memory", memory.into(), MIN_MEMORY_MIB, MAX_MEMORY_MIB)?;
    check_range("--cpus", cpus.into(), 1, MAX_CPUS)?;
    check_range("--size-mib", size, MIN_SIZE_MIB, MAX_SIZE_MIB)?;
    Ok(Resources { memory_mib: memory, cpu_count: cpus, size_mib: size })
}

/// Whether a disk can be that large.
pub(crate) fn check_size(size_mib: u64) -> Result<(), Error> {
    check_range("--size-mib", size_mib, MIN_SIZE_MIB, MAX_SIZE_MIB)
}

fn check_range(option: &'static str, value: u64, min: u64, max: u64) -> Result<(), Error> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Error::OutOfRange { option, value, min, max }) }
}

fn check_hostname(name: &str) -> Result<(), Error> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.len() <= MAX_HOSTNAME && name.split('.').all(label) {
        return Ok(());
    }
    Err(Error::BadOption {
        option: "--hostname",
        value: name.to_owned(),
        reason: "a host name is letters, digits and inner hyphens in labels joined by dots, at most 64 characters"
            .to_owned(),
    })
}

fn check_restart(policy: &str) -> Result<(), Error> {
    if matches!(policy, "never" | "on-failure" | "always") {
        return Ok(());
    }
    Err(Error::BadOption {
        option: "--restart",
        value: policy.to_owned(),
        reason: "a restart policy is `never`, `on-failure` or `always`".to_owned(),
    })
}

fn check_variable((key, value): (&String, &String)) -> Result<(), Error> {
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        return Err(Error::BadOption {
            option: "--env",
            value: key.clone(),
            reason: "a variable is `NAME=value` without zero bytes".to_owned(),
        });
    }
    Ok(())
}

fn check_file(file: &FileSpec) -> Result<(), Error> {
    check_guest_path("files", &file.destination)?;
    let parts = file.destination.split('/').skip(1);
    if parts.clone().any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::BadOption {
            option: "files",
            value: file.destination.clone(),
            reason: "it is to be the path of a file, without `.` and `..`".to_owned(),
        });
    }
    Ok(())
}

fn check_output((name, path): (&String, &String)) -> Result<(), Error> {
    Name::new(name.as_str()).map_err(|_| Error::BadOption {
        option: "--output",
        value: name.clone(),
        reason: "the name of an artifact is made of letters, digits, `.`, `_` and `-`".to_owned(),
    })?;
    check_guest_path("--output", path)
}

fn check_guest_path(option: &'static str, path: &str) -> Result<(), Error> {
    if path.starts_with('/') {
        return check_text(option, path);
    }
    let reason = "a path in the guest starts with `/`".to_owned();
    Err(Error::BadOption { option, value: path.to_owned(), reason })
}

/// Text that becomes one argument of a program.
pub(crate) fn check_text(option: &'static str, text: &str) -> Result<(), Error> {
    let reason = if text.contains('\0') {
        "it holds a zero byte".to_owned()
    } else if text.len() > MAX_LINE {
        format!("it has {} bytes, more than the {MAX_LINE} Linux takes as one argument", text.len())
    } else {
        return Ok(());
    };
    let value: String = text.chars().take(40).collect();
    Err(Error::BadOption { option, value, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: words(&["/entry"]),
            cmd: words(&["default"]),
            env: words(&["A=image", "B=image"]),
            ..ImageConfig::default()
        }
    }

    fn argv(change: impl FnOnce(&mut RunOptions)) -> Vec<String> {
        let mut options = RunOptions::new("alpine");
        change(&mut options);
        let plan = Plan::of_run(&options).unwrap();
        plan.argv(plan.command.as_ref().unwrap(), &image()).unwrap()
    }

    #[test]
    fn entry_point_and_command_combine_as_containers_do() {
        assert_eq!(argv(|_| ()), ["/entry", "default"]);
        assert_eq!(argv(|options| options.command = Command::Arguments(words(&["x"]))), ["/entry", "x"]);
        assert_eq!(argv(|options| options.command = Command::Shell("a b".into())), ["/bin/sh", "-c", "a b"]);
        assert_eq!(argv(|options| options.workspace.entrypoint = Some("/e 'f g'".into())), ["/e", "f g"]);
    }

    #[test]
    fn the_callers_environment_wins_and_path_is_never_missing() {
        let own = BTreeMap::from([("B".to_owned(), "mine".to_owned())]);
        let env = combine(&image().env, &own);
        assert_eq!(env[..2], ["A=image", "B=mine"]);
        assert!(env[2].starts_with("PATH=/"));
    }

    #[test]
    fn an_image_without_a_command_needs_one() {
        let plan = Plan::of_run(&RunOptions::new("scratch-like")).unwrap();
        let command = plan.command.as_ref().unwrap();
        assert!(matches!(plan.argv(command, &ImageConfig::default()), Err(Error::NoCommand { .. })));
    }

    #[test]
    fn nonsense_is_refused_with_the_option_that_holds_it() {
        type Change = fn(&mut RunOptions);
        let cases: [(Change, &str); 7] = [
            (|options| options.workspace.memory_mib = Some(1), "--memory"),
            (|options| options.workspace.cpus = Some(0), "--cpus"),
            (|options| options.workspace.size_mib = Some(1), "--size-mib"),
            (|options| options.workspace.hostname = Some("a b".into()), "--hostname"),
            (|options| options.workspace.restart = "sometimes".into(), "--restart"),
            (|options| options.workspace.entrypoint = Some("'".into()), "--entrypoint"),
            (|options| options.command = Command::Shell("x".repeat(200_000)), "--exec"),
        ];
        for (change, option) in cases {
            let mut options = RunOptions::new("alpine");
            change(&mut options);
            let error = Plan::of_run(&options).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
