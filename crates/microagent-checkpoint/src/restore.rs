//! Makes copies.

use crate::format::{MEMORY_SLOT, PLAN_SLOT, SLOTS};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::Command;

const LOADER: &[u8] = include_bytes!(env!("MICROAGENT_LOADER"));

/// A checkpoint, opened.
#[derive(Debug)]
pub struct Checkpoint {
    /// The plan, as [`capture`](crate::capture) wrote it. It is trusted: whoever can write to it decides what the copy does.
    pub plan: File,
    /// The memory, as [`capture`](crate::capture) wrote it.
    pub memory: File,
}

impl Checkpoint {
    /// Differs between versions of this crate that cannot read each other's checkpoints, or would make other copies of them: the loader
    /// itself.
    pub const FORMAT: &[u8] = LOADER;

    /// The first slot for what a copy is given.
    pub const FIRST_SLOT: u32 = 2;

    /// A command that becomes a copy, with the descriptors of `given` in their slots. Standard input, output and error are the command's.
    pub fn command(&self, given: &[(u32, BorrowedFd<'_>)]) -> io::Result<Becoming> {
        let loader = File::from(rustix::fs::memfd_create("microagent-loader", MemfdFlags::CLOEXEC)?);
        io::Write::write_all(&mut &loader, LOADER)?;
        let own = [(PLAN_SLOT, self.plan.as_fd()), (MEMORY_SLOT, self.memory.as_fd())];
        let mut descriptors = Vec::new();
        for (slot, descriptor) in own.iter().chain(given) {
            let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, 0)?;
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
    /// The command. A copy has neither its arguments nor its environment.
    pub command: Command,
    _loader: File,
    _descriptors: Vec<OwnedFd>,
}

#[allow(unsafe_code)]
mod filling {
    use super::{Command, RawFd, SLOTS};
    use std::io;
    use std::os::unix::process::CommandExt;

    /// Beyond all slots there are.
    const ABOVE_SLOTS: libc::c_int = SLOTS.cast_signed() + 64;

    /// Has the child put each descriptor into its slot, where it stays open. A copy needs more descriptors than some processes may have.
    pub(super) fn fill_slots(command: &mut Command, mut moves: Vec<(RawFd, RawFd)>) {
        let fill = move || {
            raise_limit();
            // First out of the way, so that putting one into its slot cannot close another that is still to be put into its own.
            for (from, _) in &mut moves {
                // SAFETY: the child's descriptors are a copy of the parent's, which keeps the sources open until it has spawned.
                *from = unsafe { libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, ABOVE_SLOTS) };
                if *from < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for &(from, to) in &moves {
                // SAFETY: as above.
                if unsafe { libc::dup2(from, to) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls and writes to its own list only.
        unsafe { command.pre_exec(fill) };
    }

    /// Lets the child have as many descriptors as it may. Where that is not enough, the next step fails.
    fn raise_limit() {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls take a structure of ours.
        unsafe {
            if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            }
        }
    }
}
