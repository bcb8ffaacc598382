//! What a run is asked to do.

use crate::{Interrupt, NetworkOptions, SecretOptions};
use microagent_image::{Platform, PullOptions};
use microagent_state::{DiskRecord, FileRecord, Health};
use serde::Serialize;
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

/// A file of the host that is put into a workspace. What it holds when the workspace is made is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSpec {
    /// The file.
    pub source: PathBuf,
    /// Its absolute path in the guest, where it belongs to root. Directories on the way are made.
    pub destination: String,
    /// Its mode.
    pub mode: u32,
}

impl FileSpec {
    pub(crate) fn record(&self) -> FileRecord {
        let FileSpec { source, destination, mode } = self.clone();
        FileRecord { source, destination, mode }
    }
}

/// Whether a machine may be restored from a template, and leave one for later machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Templates {
    /// Restore the machine from a template; where there is none, make one on the way.
    #[default]
    On,
    /// Boot the machine, and leave templates alone.
    Off,
}

/// What a workspace is: its image, its machine, and what there is to know of the commands in it.
///
/// Everything but the image has a default.
#[derive(Clone, Debug)]
pub struct WorkspaceOptions {
    /// Image reference.
    pub image: String,
    /// An ext4 or EROFS root file system to use as the base instead of an image's, which is then only a label. It is never written to.
    pub rootfs: Option<PathBuf>,
    /// Replaces the image's entry point; split into words as a shell does.
    pub entrypoint: Option<String>,
    /// Lines for `/bin/sh -c`, run as root in order, once; the first that fails is the last.
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
    /// Shell for interactive sessions; a path in the guest.
    pub shell: String,
    /// A label that is kept and shown, and means nothing here.
    pub role: String,
    /// Disks besides its own, in the order in which they are mounted: what [`Disks`](crate::Disks) makes of declarations.
    pub disks: Vec<DiskRecord>,
    /// How it is connected.
    pub network: NetworkOptions,
    /// Secrets it is given.
    pub secrets: SecretOptions,
    /// Guest paths that are artifacts, by name.
    pub outputs: BTreeMap<String, String>,
    /// Files of the host that are put into it before its set-up steps are run.
    pub files: Vec<FileSpec>,
    /// Name of the resource profile.
    pub profile: String,
    /// RAM in MiB, instead of the profile's.
    pub memory_mib: Option<u32>,
    /// Virtual processors, instead of the profile's.
    pub cpus: Option<u32>,
    /// Size of the writable disk in MiB, instead of the profile's.
    pub size_mib: Option<u64>,
    /// Least room on the writable disk in MiB, where its size is not given. The image takes none of it.
    pub headroom_mib: Option<u64>,
    /// Restart policy: `never`, `on-failure` or `always`. It is enforced by [`Client::supervise`](crate::Client::supervise).
    pub restart: String,
    /// Time after its start at which a workspace is halted.
    pub ttl: Option<Duration>,
    /// How it is found out whether the workspace is well, by [`Client::supervise`](crate::Client::supervise).
    pub health: Option<Health>,
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
    /// Whether the machine may come from a template.
    pub templates: Templates,
    /// `mke2fs` program that formats the writable disk, instead of the built-in writer.
    pub mke2fs: Option<PathBuf>,
    /// Stops it from another thread.
    pub interrupt: Interrupt,
}

impl WorkspaceOptions {
    /// A workspace of `image` with every default.
    pub fn new(image: impl Into<String>) -> WorkspaceOptions {
        WorkspaceOptions {
            image: image.into(),
            rootfs: None,
            entrypoint: None,
            setup: Vec::new(),
            name: None,
            hostname: None,
            env: BTreeMap::new(),
            workdir: None,
            user: None,
            shell: "/bin/sh".to_owned(),
            role: microagent_state::record::DEFAULT_ROLE.to_owned(),
            disks: Vec::new(),
            network: NetworkOptions::default(),
            secrets: SecretOptions::default(),
            outputs: BTreeMap::new(),
            files: Vec::new(),
            profile: crate::Profile::DEFAULT.name.to_owned(),
            memory_mib: None,
            cpus: None,
            size_mib: None,
            headroom_mib: None,
            restart: "never".to_owned(),
            ttl: None,
            health: None,
            backend: None,
            kernel: None,
            guest_init: None,
            platform: Platform::host(),
            pull: PullOptions::default(),
            templates: Templates::default(),
            mke2fs: None,
            interrupt: Interrupt::default(),
        }
    }

    /// How the image is pulled: as asked, for the guest's platform, until interrupted.
    pub(crate) fn pull_options(&self) -> PullOptions {
        PullOptions {
            platform: self.platform,
            cancellation: self.interrupt.cancellation().clone(),
            ..self.pull.clone()
        }
    }
}

/// The image of a workspace that is given neither an image nor a root file system.
pub const DEFAULT_IMAGE: &str = "docker.io/library/python:3.13-slim";

/// Options of [`Client::run`](crate::Client::run).
///
/// ```
/// use microagent::{Command, RunOptions};
///
/// let mut options = RunOptions::new("docker.io/library/alpine:3.20");
/// options.command = Command::Shell("cat /etc/alpine-release".to_owned());
/// options.workspace.memory_mib = Some(1024);
/// ```
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The workspace it runs in.
    pub workspace: WorkspaceOptions,
    /// What to run.
    pub command: Command,
    /// Kill the machine when it has run for this long.
    pub timeout: Option<Duration>,
    /// Keep the workspace after the command.
    pub keep: bool,
    /// File that the smallest policy is written to which would have allowed what left the workspace, or was not let out.
    pub learn: Option<PathBuf>,
}

impl RunOptions {
    /// Runs the command of `image` with every default.
    pub fn new(image: impl Into<String>) -> RunOptions {
        RunOptions {
            workspace: WorkspaceOptions::new(image),
            command: Command::default(),
            timeout: None,
            keep: false,
            learn: None,
        }
    }
}

/// The command of every start of a workspace. The workspace ends when its command does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// The entry point that was given, with the image's own command as its arguments where there is none; without an entry point, none:
    /// the workspace runs until it is halted.
    #[default]
    Entrypoint,
    /// The image's own entry point and command.
    Image,
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// Options of [`Client::create`](crate::Client::create).
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The workspace.
    pub workspace: WorkspaceOptions,
    /// What it does when it is started.
    pub service: Service,
}

impl CreateOptions {
    /// A workspace of `image` with every default.
    pub fn new(image: impl Into<String>) -> CreateOptions {
        CreateOptions { workspace: WorkspaceOptions::new(image), service: Service::default() }
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
