//! Virtual machines: everything from a kernel file to a guest that answers.
//!
//! - [`probe`] finds out what this host can run machines with: a KVM that works, QEMU, Firecracker.
//! - [`kernel`] gets a guest kernel and its modules from a distribution package, a file or a URL, and keeps it verified.
//! - [`agent`] is the guest agent, built statically and embedded; [`initramfs`] packs it with the kernel's modules.
//! - [`engine`] launches a machine; [`channel`] is the conversation with the agent inside.
//!
//! The crate knows nothing of images, workspaces or state records: it is given files and gives back a running machine.

pub mod agent;
pub mod channel;
pub mod engine;
mod error;
pub mod initramfs;
pub mod kernel;
pub mod log;
pub mod probe;
pub mod template;

pub use channel::Channel;
pub use error::Error;
