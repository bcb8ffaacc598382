//! Run any OCI image in its own Linux microVM: no root, no daemon.
//!
//! ```no_run
//! use microagent::{Client, Command, RunIo, RunOptions};
//!
//! let client = Client::open(None)?;
//! let mut options = RunOptions::new("docker.io/library/alpine:3.20");
//! options.command = Command::Shell("cat /etc/alpine-release".to_owned());
//! let report = client.run(&options, RunIo::default())?;
//! assert_eq!(report.result.exit_code, 0);
//! print!("{}", report.result.stdout);
//! # Ok::<(), microagent::Error>(())
//! ```
//!
//! Start from [`Client`]: it is one state directory and every verb on it. [`RunOptions`] and [`RunReport`] are what goes into and comes
//! out of the one-shot path; [`Client::images`] and [`Client::kernels`] lead to what machines are made of; [`Client::doctor`] says
//! whether this host can run them, and [`perf`] how fast. Every error is a [`Fault`]: it has a stable code, a message, a hint, and says
//! whether trying again can help.
//!
//! Calls block; none needs an async runtime. The `microagent` command is a thin shell over this crate: `docs/library.md` maps each of
//! its verbs to a call.

mod apply;
mod attach;
mod boot;
mod client;
mod clone;
mod commands;
mod commit;
mod control;
mod create;
mod describe;
mod disk_copy;
mod disks;
mod doctor;
mod error;
mod files;
mod follow;
mod images;
mod inject;
mod interrupt;
mod network;
mod options;
pub mod perf;
mod plan;
mod prepare;
mod profile;
mod progress;
mod rehearsal;
mod run;
mod signal;
mod snapshot;
pub mod spec;
mod stats;
mod status;
mod supervise;
mod supervisor;
mod templates;
mod verify;
mod volumes;
mod workspaces;

pub use apply::{Applied, AppliedChange};
pub use boot::{Start, Timing};
pub use client::Client;
pub use clone::Cloned;
pub use commit::{CommitOptions, Committed};
pub use control::{
    Connection, ExecOptions, ExecReport, ExecStatus, Process, ProcessStreams, StartOptions, StartOutcome, StateReport,
    Waited,
};
pub use create::CreateReport;
pub use disks::Disks;
pub use doctor::{Check, CheckStatus, Doctor, Verdict};
pub use error::{Error, FailedRun};
pub use files::{Artifact, ArtifactList, Changes, Copied, CopyOptions, Resized};
pub use follow::Log;
pub use images::{Rootfs, RootfsOptions};
pub use interrupt::Interrupt;
pub use network::{
    EgressReplay, NetworkOptions, NetworkReport, ReplayLine, SecretAccess, SecretCheck, SecretOptions, SecretOutcome,
    parse_forward, parse_mediation, rooted,
};
pub use options::{
    Command, CreateOptions, DEFAULT_IMAGE, FileSpec, RunIo, RunOptions, Service, Templates, WorkspaceOptions,
};
pub use plan::{Plan, PlannedCommand};
pub use prepare::{Prepared, TemplateOptions};
pub use profile::Profile;
pub use progress::{Event, Progress, Silent};
pub use run::{ImageSummary, Response, RunReport};
pub use snapshot::{
    DisksRestored, ForkOptions, Forked, Quarantined, SnapshotDetails, SnapshotOptions, SnapshotReport, SnapshotSummary,
};
pub use spec::WorkspaceSpec;
pub use stats::WorkspaceStats;
pub use status::{Readiness, Ready, RootfsUsage, WorkspaceStatus};
pub use supervise::{SuperviseOptions, Supervised, SupervisedEvent};
pub use supervisor::StartReport;
pub use templates::{DiskUsage, Usage};
pub use verify::{Divergence, Verified};
pub use volumes::{DEFAULT_VOLUME_MIB, VolumeStatus, VolumesPruned};
pub use workspaces::{DeleteOptions, Deleted, Garbage, Logs, WorkspaceRow};

pub use microagent_machine::template::{MemoryPlace, TemplatePrune, TemplateSummary, TemplatesPruned};

pub use microagent_egress as egress;
pub use microagent_image as image;
pub use microagent_intercept::SwapConfig;
pub use microagent_machine as machine;
pub use microagent_protocol::{
    Capacity, Change, ChangeKind, Fault, FaultKind, FaultReport, FileKind, Recipients, WindowSize,
    supervisor as protocol,
};
pub use microagent_secret::{Binding, Reference};
pub use microagent_state::snapshot::{
    DiskPart as SnapshotDisk, Manifest as SnapshotManifest, SnapshotKind, SnapshotRef, Tag,
};
pub use microagent_state::{
    Cause, Collected, DiskRecord, DiskSource, Event as WorkspaceEvent, ForwardRecord, Health, HttpGet, MediationRecord,
    MountMode, Name, Phase, Resources, ResultRecord, Verification, VolumeName, WorkspaceRecord,
};
