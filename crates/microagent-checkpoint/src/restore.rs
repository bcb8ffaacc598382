//! Makes copies.

use crate::format::{MEMORY_SLOT, PLAN_SLOT, SLOTS};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::Command;

static LOADER: &[u8] = include_bytes!(env!("MICROAGENT_LOADER"));

/// A checkpoint, opened.
#[derive(Debug)]
pub struct Checkpoint {
    /// The plan, as [`capture`](crate::capture) wrote it. It is trusted: whoever can write to it decides what the copy does.
    pub plan: File,
    /// The memory, as [`capture`](crate::capture) wrote it.
    pub memory: File,
}

impl Checkpoint {
    /// The first slot for what a copy is given.
    pub const FIRST_SLOT: u32 = 2;

    /// A command that becomes a copy, with the descriptors of `given` in their slots. Standard input, output and error are the command's.
    pub fn command(&self, given: &[(u32, BorrowedFd<'_>)]) -> io::Result<Becoming> {
        let loader = File::from(rustix::fs::memfd_create("microagent-loader", MemfdFlags::CLOEXEC)?);
        io::Write::write_all(&mut &loader, LOADER)?;
        let own = [(PLAN_SLOT, self.plan.as_fd()), (MEMORY_SLOT, self.memory.as_fd())];
        let mut descriptors = Vec::new();
        for (slot, descriptor) in own.iter().chain(given) {
            // High up, so that putting one into its slot cannot close another that is still to be put into its own.
            let above = (SLOTS + 64).cast_signed();
            let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, above)?;
            descriptors.push(((SLOTS + slot).cast_signed(), copy));
        }
        let program = format!("/proc/self/fd/{}", loader.as_raw_fd());
        let mut command = Command::new(program);
        let moves = descriptors.iter().map(|(slot, descriptor)| (descriptor.as_raw_fd(), *slot)).collect();
        filling::fill_slots(&mut command, moves);
        Ok(Becoming {
            command,
            _loader: loader,
            _descriptors: descriptors.into_iter().map(|(_, owned)| owned).collect(),
        })
    }
}

/// A command that becomes a copy when it is spawned, and what it needs until then.
#[derive(Debug)]
pub struct Becoming {
    /// The command. Its arguments are seen in process lists and by nobody else.
    pub command: Command,
    _loader: File,
    _descriptors: Vec<OwnedFd>,
}

#[allow(unsafe_code)]
mod filling {
    use super::{Command, RawFd};
    use std::io;
    use std::os::unix::process::CommandExt;

    /// Has the child put each descriptor into its slot, where it stays open.
    pub(super) fn fill_slots(command: &mut Command, moves: Vec<(RawFd, RawFd)>) {
        let fill = move || {
            for &(from, to) in &moves {
                // SAFETY: the child's descriptors are a copy of the parent's, which keeps the sources open until it has spawned.
                if unsafe { libc::dup2(from, to) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls only.
        unsafe { command.pre_exec(fill) };
    }
}
