//! The state directory: what is remembered between two commands, and who holds it.
//!
//! ```text
//! workspaces/<name>/workspace.json   what the workspace is and what became of it    (WorkspaceRecord)
//!                   lease            locked by whoever runs it, for as long as it runs
//!                   rootfs.ext4      its writable disk
//!                   result.json      how its last command ended                     (ResultRecord)
//!                   serial.log       the guest kernel's console
//!                   engine.log       what the engine program printed
//!                   stdout.log, stderr.log   what its last command wrote, as far as it was kept
//!            .lock                     held by the collector, shared by makers of workspaces
//! ```
//!
//! - [`StateDir`] finds, lists and makes workspaces, and heals what a crash left ([`StateDir::collect_garbage`]).
//! - [`Workspace`] is one of them, held by its [`Lease`]: a lock that the kernel releases however the holder ends. Liveness is that
//!   lock and never a process id in a file.
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
mod gc;
mod lease;
mod name;
pub mod record;
mod workspace;

pub use dir::StateDir;
pub use error::Error;
pub use gc::Collected;
pub use lease::Lease;
pub use name::Name;
pub use record::{Phase, Record, Resources, ResultRecord, WorkspaceRecord};
pub use workspace::Workspace;
