//! Checking what was asked, before anything is done about it.

use crate::{Command, Error, Profile, RunOptions};
use microagent_image::{ImageConfig, Platform, Reference};
use microagent_machine::engine::Accelerator;
use microagent_state::{Name, Resources};
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

/// A run that was found to make sense, offline: what `--dry-run` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Name of the workspace.
    pub workspace: Name,
    /// The image, in full.
    pub image: Reference,
    /// Architecture of image and guest.
    pub platform: Platform,
    /// Name of the profile.
    pub profile: &'static str,
    /// Size of the machine.
    pub resources: Resources,
    /// Network mode.
    pub network: &'static str,
    /// Restart policy.
    pub restart: String,
    /// Guest host name.
    pub hostname: String,
    /// Environment on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Set-up lines.
    pub setup: Vec<String>,
    /// The command, as far as it is known without the image.
    pub command: PlannedCommand,
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
    /// Checks `options` without touching the network, the state directory or the image.
    pub fn new(options: &RunOptions) -> Result<Plan, Error> {
        let workspace = match &options.name {
            Some(name) => Name::new(name.as_str())?,
            None => Name::generate("run"),
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
        let profile = Profile::named(&options.profile)?;
        Ok(Plan {
            hostname,
            workspace,
            image: options.image.parse()?,
            platform: options.platform,
            profile: profile.name,
            resources: check_resources(profile, options.memory_mib, options.cpus, options.size_mib)?,
            network: "isolated",
            restart: options.restart.clone(),
            env: options.env.clone(),
            setup: options.setup.clone(),
            command: planned_command(options)?,
            backend: options.backend.clone(),
            kernel: options.kernel.clone(),
            timeout_ms: options.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            keep: options.keep,
        })
    }

    /// The command's words, now that the image is known.
    pub(crate) fn argv(&self, config: &ImageConfig) -> Result<Vec<String>, Error> {
        let argv = match &self.command {
            PlannedCommand::Argv(argv) => argv.clone(),
            PlannedCommand::ImageEntrypoint(arguments) => {
                let rest = if arguments.is_empty() { &config.cmd } else { arguments };
                config.entrypoint.iter().chain(rest).cloned().collect()
            }
        };
        if argv.is_empty() { Err(Error::NoCommand { image: self.image.familiar() }) } else { Ok(argv) }
    }

    /// The command's whole environment: the image's, overridden by the caller's.
    pub(crate) fn environment(&self, config: &ImageConfig) -> Vec<String> {
        let key = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
        let mut env: Vec<String> =
            config.env.iter().filter(|pair| !self.env.contains_key(&key(pair))).cloned().collect();
        env.extend(self.env.iter().map(|(key, value)| format!("{key}={value}")));
        if !env.iter().any(|pair| pair.starts_with("PATH=")) {
            env.push(DEFAULT_PATH.to_owned());
        }
        env
    }
}

/// A line run by the image's shell.
pub(crate) fn shell_line(line: &str) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()]
}

fn planned_command(options: &RunOptions) -> Result<PlannedCommand, Error> {
    let entrypoint = match &options.entrypoint {
        None => None,
        Some(text) => Some(split("--entrypoint", text)?),
    };
    let command = match (&options.command, entrypoint) {
        (Command::Shell(line), None) => {
            check_text("--exec", line)?;
            PlannedCommand::Argv(shell_line(line))
        }
        (Command::Shell(line), Some(_)) => {
            return Err(Error::BadOption {
                option: "--entrypoint",
                value: options.entrypoint.clone().unwrap_or_default(),
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
    let (PlannedCommand::Argv(words) | PlannedCommand::ImageEntrypoint(words)) = &command;
    words.iter().try_for_each(|word| check_text("command", word))?;
    Ok(command)
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

fn check_text(option: &'static str, text: &str) -> Result<(), Error> {
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
        Plan::new(&options).unwrap().argv(&image()).unwrap()
    }

    #[test]
    fn entry_point_and_command_combine_as_containers_do() {
        assert_eq!(argv(|_| ()), ["/entry", "default"]);
        assert_eq!(argv(|options| options.command = Command::Arguments(words(&["x"]))), ["/entry", "x"]);
        assert_eq!(argv(|options| options.command = Command::Shell("a b".into())), ["/bin/sh", "-c", "a b"]);
        assert_eq!(argv(|options| options.entrypoint = Some("/e 'f g'".into())), ["/e", "f g"]);
    }

    #[test]
    fn the_callers_environment_wins_and_path_is_never_missing() {
        let mut options = RunOptions::new("alpine");
        options.env.insert("B".into(), "mine".into());
        let env = Plan::new(&options).unwrap().environment(&image());
        assert_eq!(env[..2], ["A=image", "B=mine"]);
        assert!(env[2].starts_with("PATH=/"));
    }

    #[test]
    fn an_image_without_a_command_needs_one() {
        let plan = Plan::new(&RunOptions::new("scratch-like")).unwrap();
        assert!(matches!(plan.argv(&ImageConfig::default()), Err(Error::NoCommand { .. })));
    }

    #[test]
    fn nonsense_is_refused_with_the_option_that_holds_it() {
        type Change = fn(&mut RunOptions);
        let cases: [(Change, &str); 7] = [
            (|options| options.memory_mib = Some(1), "--memory"),
            (|options| options.cpus = Some(0), "--cpus"),
            (|options| options.size_mib = Some(1), "--size-mib"),
            (|options| options.hostname = Some("a b".into()), "--hostname"),
            (|options| options.restart = "sometimes".into(), "--restart"),
            (|options| options.entrypoint = Some("'".into()), "--entrypoint"),
            (|options| options.command = Command::Shell("x".repeat(200_000)), "--exec"),
        ];
        for (change, option) in cases {
            let mut options = RunOptions::new("alpine");
            change(&mut options);
            let error = Plan::new(&options).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
