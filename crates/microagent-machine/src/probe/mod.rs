//! What this host can run machines with: a KVM that works, QEMU, Firecracker, and how fast its clock ticks.
//!
//! Each question has a function that finds out ([`probe_kvm`], [`probe_qemu`], [`probe_firecracker`],
//! [`measure_tsc_khz`]) and costs milliseconds. [`Host`] asks each once and remembers the answer in the state directory
//! for as long as it must hold: until the next boot, or until the program's file changes. On the path of a run that is
//! one small read and a `stat`.
//!
//! ```no_run
//! use microagent_machine::probe::{Host, KvmVerdict};
//!
//! let host = Host::open("/home/user/.microagent".as_ref());
//! match host.kvm() {
//!     KvmVerdict::Works { .. } => println!("machines run at full speed"),
//!     other => println!("machines are emulated: {other}"),
//! }
//! ```

mod error;
mod host;
mod identity;
mod kvm;
mod program;
mod tsc;
mod vcpu;

pub use error::Error;
pub use host::Host;
pub(crate) use host::boot_id;
pub use identity::FileIdentity;
pub use kvm::{KVM_DEADLINE, KvmVerdict, probe_kvm};
pub use program::{FirecrackerVerdict, QemuVerdict, probe_firecracker, probe_qemu};
pub use tsc::measure_tsc_khz;
