//! What a run is asked to do.

use crate::Interrupt;
use microagent_image::{Platform, PullOptions};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// What the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// The image's own entry point and command.
    #[default]
    Image,
    /// Arguments for the image's entry point; without an entry point, a program and its arguments.
    Arguments(Vec<String>),
    /// A line for `/bin/sh -c`, past the image's entry point.
    Shell(String),
}

/// Whether a run may restore its machine from a template, and leave one for later runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Templates {
    /// Restore the machine from a template; where there is none, make one on the way.
    #[default]
    On,
    /// Boot the machine, and leave templates alone.
    Off,
}

/// Options of [`Client::run`](crate::Client::run).
///
/// Everything but the image has a default:
///
/// ```
/// use microagent::{Command, RunOptions};
///
/// let mut options = RunOptions::new("docker.io/library/alpine:3.20");
/// options.command = Command::Shell("cat /etc/alpine-release".to_owned());
/// ```
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Image reference.
    pub image: String,
    /// What to run.
    pub command: Command,
    /// Replaces the image's entry point; split into words as a shell does.
    pub entrypoint: Option<String>,
    /// Lines for `/bin/sh -c`, run as root in order before the command; the first that fails ends the run.
    pub setup: Vec<String>,
    /// Name of the workspace; generated when absent.
    pub name: Option<String>,
    /// Guest host name; made of the workspace's name when absent.
    pub hostname: Option<String>,
    /// Environment on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Working directory; the image's when absent.
    pub workdir: Option<String>,
    /// `USER[:GROUP]`; the image's when absent.
    pub user: Option<String>,
    /// Shell for interactive sessions of a kept workspace; a path in the guest.
    pub shell: String,
    /// Name of the resource profile.
    pub profile: String,
    /// RAM in MiB, instead of the profile's.
    pub memory_mib: Option<u32>,
    /// Virtual processors, instead of the profile's.
    pub cpus: Option<u32>,
    /// Size of the writable disk in MiB, instead of the profile's.
    pub size_mib: Option<u64>,
    /// Restart policy, recorded with a kept workspace: `never`, `on-failure` or `always`.
    pub restart: String,
    /// `linux-kvm` or `linux-tcg`; the best this host has when absent.
    pub backend: Option<String>,
    /// Kernel image; the installed default when absent.
    pub kernel: Option<PathBuf>,
    /// Guest agent binary, instead of the embedded one.
    pub guest_init: Option<PathBuf>,
    /// Architecture of image and guest.
    pub platform: Platform,
    /// How the image is pulled when it is not here.
    pub pull: PullOptions,
    /// Kill the machine when it has run for this long.
    pub timeout: Option<Duration>,
    /// Keep the workspace after the command.
    pub keep: bool,
    /// Whether the machine may come from a template.
    pub templates: Templates,
    /// `mke2fs` program that formats the writable disk, instead of the built-in writer.
    pub mke2fs: Option<PathBuf>,
    /// Stops the run from another thread.
    pub interrupt: Interrupt,
}

impl RunOptions {
    /// Runs the command of `image` with every default.
    pub fn new(image: impl Into<String>) -> RunOptions {
        RunOptions {
            image: image.into(),
            command: Command::default(),
            entrypoint: None,
            setup: Vec::new(),
            name: None,
            hostname: None,
            env: BTreeMap::new(),
            workdir: None,
            user: None,
            shell: "/bin/sh".to_owned(),
            profile: crate::Profile::DEFAULT.name.to_owned(),
            memory_mib: None,
            cpus: None,
            size_mib: None,
            restart: "never".to_owned(),
            backend: None,
            kernel: None,
            guest_init: None,
            platform: Platform::host(),
            pull: PullOptions::default(),
            timeout: None,
            keep: false,
            templates: Templates::default(),
            mke2fs: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// Where the bytes of a run go and come from. What is absent is `/dev/null` for input; output is captured in the report either way.
#[derive(Default)]
pub struct RunIo {
    /// Standard input of the command. It is read on a thread of its own until it ends or the command does; a reader that blocks keeps
    /// that thread.
    pub stdin: Option<Box<dyn Read + Send>>,
    /// Gets the command's standard output as it comes. When it fails, the command's next write does too.
    pub stdout: Option<Box<dyn Write + Send>>,
    /// Gets the command's standard error as it comes.
    pub stderr: Option<Box<dyn Write + Send>>,
}

impl RunOptions {
    /// How the image is pulled: as asked, for the guest's platform, until interrupted.
    pub(crate) fn pull_options(&self) -> PullOptions {
        PullOptions {
            platform: self.platform,
            cancellation: self.interrupt.cancellation().clone(),
            ..self.pull.clone()
        }
    }
}
