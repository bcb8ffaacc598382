//! Files of a workspace, whether it runs or not.
//!
//! Only a guest ever reads or writes the disk of a workspace: what is on it is the guest's to write, and a file system is a program of its
//! own to whoever mounts it. So the files of a workspace that runs are reached through its supervisor, and those of one that is at rest in
//! a machine that is booted for that and nothing else ([`reach`]). What travels is a tar stream, and whatever a guest sends as one is
//! unpacked as the archive of a stranger is ([`copy`]).

mod artifact;
mod changes;
mod copy;
mod reach;
mod resize;

pub use artifact::{Artifact, ArtifactList};
pub use changes::Changes;
pub use copy::{Copied, CopyOptions};
pub(crate) use reach::{Files, Pending};
pub use resize::Resized;
