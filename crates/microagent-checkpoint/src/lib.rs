//! Checkpoints: a running process, written to two files, from which copies of it go on as often as wanted.
//!
//! An emulator that has just started knows nothing of the program it emulates: it translates every piece of the guest's code the first time
//! it runs, and that is most of the time a short-lived machine takes. A checkpoint is taken of one that has translated what machines
//! need; copies of it start with the translations done.
//!
//! [`capture`] stops a process with `ptrace`, and writes what it consists of: threads with their registers, memory, descriptors, signal
//! handlers. [`Checkpoint::command`] makes a [`Command`](std::process::Command) that becomes a copy. The copy's memory is mapped
//! privately from the files, so that nothing is read before it is needed and copies share what they do not change.
//!
//! It works without privileges, for programs of a certain kind: one process, descriptors of the kinds named in [`Error::Descriptor`],
//! and whatever else a descriptor leads to given anew by the caller. A copy
//! lives on the host, and during the uptime, of its original; that is for the caller to make sure of. What is checked by the
//! copy itself, before it is too late, is that the program files mapped into the original are still the same.
//!
//! | module | what it does |
//! |---|---|
//! | `tracee` | stops the process and looks into it |
//! | `memory`, `mappings`, `sparse`, `descriptors`, `frame` | turn what it consists of into system calls that lead there |
//! | `overlay` | reads out of a process what it has made of one file |
//! | `plan`, `format` | write them down as data that needs no parsing |
//! | `restore`, and the loader | carry them out, in a program of 3 KB at an address of its own |

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("checkpoints know the registers and system calls of Linux on x86-64 only");

mod capture;
mod descriptors;
mod error;
#[allow(dead_code, reason = "part of it is for the loader, which shares the file")]
mod format;
mod frame;
mod mappings;
mod memory;
mod overlay;
mod plan;
mod restore;
mod sparse;
#[allow(unsafe_code)]
mod tracee;

pub use capture::{Capture, Captured, Provided, capture};
pub use error::{Error, LoaderFailure};
pub use overlay::overlay;
pub use plan::Instruction;
pub use restore::{Becoming, Checkpoint};
