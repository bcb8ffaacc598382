//! The state directory: what is remembered between two commands, and who holds it.
//!
//! ```text
//! workspaces/<name>/workspace.json   what the workspace is and what became of it    (WorkspaceRecord)
//!                   lease            locked by whoever runs it, for as long as it runs
//!                   rootfs.ext4      its writable disk
//!                   events.jsonl     what happened to it, one line each             (Event)
//!                   supervisor.sock  where the process that runs it is reached
//!                   supervisor.log   what that process had to say
//!                   egress.jsonl     what went out of it, and what did not        (microagent_egress::Event)
//!                   secrets.jsonl    who was given which secret, where that is wanted
//!                   result.json      how its last command ended                     (ResultRecord)
//!                   serial.log       the guest kernel's console
//!                   engine.log       what the engine program printed
//!                   stdout.log, stderr.log   what its last command wrote, as far as it was kept
//!                   snapshots/<tag>/  what it was at some moments                    (Manifest)
//!                   restoring/        disks that are about to take the place of its own
//!            .lock                     held by the collector, shared by makers of workspaces
//! volumes/<name>/volume.json         what the volume is                             (VolumeRecord)
//!                disk.ext4           its disk
//!                lock, attached/     who has it                                     (Attachment)
//! layers/<id>                        memory and disks of snapshots, by what is different in them (snapshot::LayerId)
//! ```
//!
//! - [`StateDir`] finds, lists and makes workspaces, and heals what a crash left ([`StateDir::collect_garbage`]).
//! - [`Workspace`] is one of them, held by its [`Lease`]: a lock that the kernel releases however the holder ends. Liveness is that
//!   lock and never a process id in a file.
//! - [`Volume`] is a disk that outlives workspaces; an [`Attachment`] is the right of one of them to use it.
//! - [`snapshot`] keeps what workspaces were at some moments, and shares what is the same in it.
//! - [`record`] writes records so that a reader sees the old one or the new one, and refuses what it does not understand.
//!
//! ```
//! use microagent_state::{Name, StateDir};
//!
//! let root = tempfile::tempdir()?;
//! let state = StateDir::open(root.path().join("state"))?;
//! let workspace = state.create(&Name::new("research")?)?;
//! assert_eq!(state.names()?, [Name::new("research")?]);
//! drop(workspace);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dir;
mod error;
mod event;
mod gc;
mod lease;
mod name;
mod phase;
pub mod record;
pub mod snapshot;
mod swap;
mod volume;
mod watch;
mod workspace;

pub use dir::StateDir;
pub use error::Error;
pub use event::{Cause, Event};
pub use gc::Collected;
pub use lease::Lease;
pub use name::Name;
pub use phase::Phase;
pub use record::{
    DiskRecord, DiskSource, FileRecord, ForwardRecord, Health, HttpGet, MediationRecord, MountMode, Record, Resources,
    ResultRecord, SecretsRecord, Verification, VolumeRecord, WorkspaceRecord,
};
pub use volume::{Attachment, DiskLock, Volume, VolumeName};
pub use watch::Watch;
pub use workspace::Workspace;
