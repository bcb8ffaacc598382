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

mod client;
mod doctor;
mod error;
mod images;
mod interrupt;
mod options;
pub mod perf;
mod plan;
mod prepare;
mod profile;
mod progress;
mod rehearsal;
mod run;
mod templates;
mod workspaces;

pub use client::Client;
pub use doctor::{Check, CheckStatus, Doctor, Verdict};
pub use error::{Error, FailedRun};
pub use images::{Rootfs, RootfsOptions};
pub use interrupt::Interrupt;
pub use options::{Command, RunIo, RunOptions, Templates};
pub use plan::{Plan, PlannedCommand};
pub use prepare::{Prepared, TemplateOptions};
pub use profile::Profile;
pub use progress::{Event, Progress, Silent};
pub use run::{ImageSummary, Response, RunReport, Start, Timing};
pub use templates::{DiskUsage, Usage};
pub use workspaces::{Deleted, Garbage, Logs, WorkspaceRow, WorkspaceStatus};

pub use microagent_machine::template::{MemoryPlace, TemplatePrune, TemplateSummary, TemplatesPruned};

pub use microagent_image as image;
pub use microagent_machine as machine;
pub use microagent_protocol::{Fault, FaultKind, FaultReport};
pub use microagent_state::{Collected, Name, Phase, Resources, ResultRecord, WorkspaceRecord};
