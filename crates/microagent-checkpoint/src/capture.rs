//! Takes a checkpoint.

use crate::format::{SLOTS, Thread};
use crate::memory::Saver;
use crate::plan::{Instruction, Plan, number};
use crate::tracee::{Handler, StoppedThread, Tracee};
use crate::{Error, descriptors, frame};
use std::fs::{self, File};
use std::time::Duration;

/// How often a process is looked at that should be about to rest, and how long it is left alone in between. On a busy host what is a
/// millisecond's work can take a second.
const ATTEMPTS: u32 = 200;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
const PR_SET_NAME: u64 = 15;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const SECCOMP_SET_MODE_FILTER: u64 = 1;

/// What to capture, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Capture<'a> {
    /// The process: one that this one may trace, such as a child. All its threads wait for something, or soon will.
    pub pid: i32,
    /// Receives the plan.
    pub plan: &'a File,
    /// Receives the memory; sparse.
    pub memory: &'a File,
    /// Memory that copies have from a file of the caller's.
    pub provided: Option<Provided<'a>>,
    /// Devices and inodes of files that copies do without if the process has them open: it has read them, and will not again.
    pub forgotten: &'a [(u64, u64)],
    /// Files and sockets, by device and inode, that a copy is given others for, each with the slot (from
    /// [`Checkpoint::FIRST_SLOT`](crate::Checkpoint::FIRST_SLOT) on) it is given in. It has them wherever the process has one open.
    pub given: &'a [((u64, u64), u32)],
    /// A system call filter (seccomp) that copies live under; none when empty. It must allow what a thread starts with: `clone` of threads,
    /// `set_robust_list`, `rseq`, `set_tid_address`, `arch_prctl`, `gettid` and `rt_sigreturn`.
    pub filter: &'a [Instruction],
}

/// One stretch of the process's memory, which copies map privately from a descriptor they are given.
#[derive(Clone, Copy, Debug)]
pub struct Provided<'a> {
    /// The file that the process has mapped there, shared or privately, if only in parts. Copies have no descriptor of it: where the process
    /// has one, they have the other.
    pub mapped: &'a File,
    /// The file that copies map: it holds what the memory holds now, and is as long as the stretch. The same as `mapped` where that is mapped
    /// shared.
    pub content: &'a File,
    /// The slot the descriptor of `content` is given in.
    pub slot: u32,
}

/// What was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Bytes of memory that were saved.
    pub memory_bytes: u64,
}

/// Writes a checkpoint of a process. The process goes on afterwards.
pub fn capture(request: &Capture) -> Result<Captured, Error> {
    let (tracee, threads) = stop(request.pid)?;
    let mut plan = Plan::default();
    descriptors::add(&mut plan, request)?;
    let memory_bytes = Saver::new(request.pid, request.provided, request.memory)?.save(&mut plan)?;
    plan.call(number::CLOSE_RANGE, &[SLOTS.into(), u32::MAX.into(), 0], 0);
    add_signal_handlers(&mut plan, &tracee.signal_handlers()?);
    add_name(&mut plan, request.pid)?;
    add_filter(&mut plan, request.filter);
    for thread in threads {
        let frame = frame::add(&mut plan, &thread.registers, thread.signal_mask, &thread.extended);
        plan.thread(Thread {
            tls: thread.registers.fs_base,
            id: thread.id_address.unwrap_or(0),
            robust: thread.robust.0,
            robust_length: thread.robust.1,
            rseq: thread.rseq.0,
            rseq_length: thread.rseq.1,
            rseq_signature: thread.rseq.2,
            frame,
        });
    }
    plan.write(request.plan).map_err(Error::Write)?;
    Ok(Captured { memory_bytes })
}

/// Stops the process when it is at rest. Nothing tells when that is, so it is let go and stopped again until it is.
fn stop(pid: i32) -> Result<(Tracee, Vec<StoppedThread>), Error> {
    let mut attempts = 1;
    loop {
        let tracee = Tracee::stop(pid);
        match tracee.and_then(|tracee| tracee.threads().map(|threads| (tracee, threads))) {
            Err(Error::Busy) if attempts < ATTEMPTS => std::thread::sleep(BETWEEN_ATTEMPTS),
            stopped => return stopped,
        }
        attempts += 1;
    }
}

fn add_signal_handlers(plan: &mut Plan, handlers: &[Handler]) {
    for (signal, handler) in (1..).zip(handlers).filter(|(signal, _)| ![SIGKILL, SIGSTOP].contains(signal)) {
        let handler = plan.words(handler);
        plan.call(number::RT_SIGACTION, &[signal, handler, 0, 8], 0);
    }
}

/// The name that process lists show.
fn add_name(plan: &mut Plan, pid: i32) -> Result<(), Error> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_err(|source| Error::Trace { action: "read the name of", source })?;
    let name = plan.string(name.trim_end());
    plan.call(number::PRCTL, &[PR_SET_NAME, name], 0);
    Ok(())
}

fn add_filter(plan: &mut Plan, filter: &[Instruction]) {
    if filter.is_empty() {
        return;
    }
    let program: Vec<u8> = filter
        .iter()
        .flat_map(|one| {
            let [low, high] = one.code.to_ne_bytes();
            let [a, b, c, d] = one.operand.to_ne_bytes();
            [low, high, one.jump_true, one.jump_false, a, b, c, d]
        })
        .collect();
    let program = plan.data(&program, 8);
    // `struct sock_fprog`: a number of 16 bits, padding, an address.
    let program = plan.words(&[filter.len() as u64, program]);
    plan.call(number::PRCTL, &[PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0], 0);
    plan.call(number::SECCOMP, &[SECCOMP_SET_MODE_FILTER, 0, program], 0);
}
