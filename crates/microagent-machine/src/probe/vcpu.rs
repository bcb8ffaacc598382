//! One virtual CPU that runs one loop, and can be stopped. All the probe's unsafe code is here.
//!
//! The vCPU runs on a thread of its own, because `KVM_RUN` returns when the guest exits and not before, unless a signal
//! arrives. The signal is blocked on that thread and unblocked by the kernel for the time inside `KVM_RUN` only
//! (`KVM_SET_SIGNAL_MASK`): sent early it waits, sent in time it ends the call, and in no case does a handler run or a
//! disposition matter. So nothing of the process has to change for the probe, and there is no window to miss.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

/// Rounds of the loop, two instructions each. The figures are in [`super::KVM_DEADLINE`].
pub(super) const LOOPS: u32 = 2_000_000;
/// Rounds run before, so that first faults, page tables and (in a lab) translation are not part of the figure.
const WARM_UP: u32 = 1_000;
/// The first entry of the first guest after boot took 120 ms in a busy lab, and takes microseconds elsewhere.
const WARM_UP_DEADLINE: Duration = Duration::from_secs(3);

/// A vCPU that has not left `KVM_RUN` this long after its signal never will; the signal itself takes microseconds.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

const PML4: usize = 0;
const PDPT: usize = 0x1000;
const PD: usize = 0x2000;
const CODE: usize = 0x3000;
const SIZE: usize = 0x4000;

// Bits of page table entries and control registers: Intel SDM volume 3, chapters 2 and 4.
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
const CR0_PROTECTION_AND_PAGING: u64 = 1 | 1 << 4 | 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
/// The reserved bit of the flags that is always set.
const RFLAGS: u64 = 1 << 1;

/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

type StepError = (&'static str, io::Error);

/// What became of the loop.
pub(super) enum Outcome {
    /// It ran to its `hlt`.
    Finished { took: Duration },
    /// It was stopped at the deadline, after `done` rounds.
    Stopped { done: u64 },
    /// The vCPU left for a reason nothing in the code gives.
    Unexpected { exit: String },
}

/// A virtual machine with one CPU about to run the loop.
pub(super) struct Vcpu {
    // Dropped in this order: the memory has to outlive the machine that maps it.
    cpu: VcpuFd,
    _machine: VmFd,
    _memory: Box<Memory>,
}

#[repr(C, align(4096))]
struct Memory([u8; SIZE]);

impl Vcpu {
    /// A CPU in 64-bit mode with paging, as a kernel has it.
    pub(super) fn new(kvm: &Kvm) -> Result<Vcpu, StepError> {
        let machine = kvm.create_vm().map_err(step("create a virtual machine"))?;
        let memory = program();
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: SIZE as u64,
            userspace_addr: ptr::from_ref(memory.as_ref()) as u64,
        };
        // SAFETY: the region is exactly the boxed memory, page aligned, which lives as long as the machine (see `Vcpu`)
        // and is not looked at by this process while it does.
        unsafe { machine.set_user_memory_region(region) }.map_err(step("give memory to a virtual machine"))?;
        let cpu = machine.create_vcpu(0).map_err(step("create a virtual CPU"))?;
        enter_long_mode(&cpu).map_err(step("bring a virtual CPU into 64-bit mode"))?;
        Ok(Vcpu { cpu, _machine: machine, _memory: memory })
    }

    /// Runs the loop, for `deadline` at most once the CPU is warm.
    pub(super) fn run(self, deadline: Duration) -> Result<Outcome, StepError> {
        let kick = libc::SIGRTMIN();
        set_signal_mask(&self.cpu, kick).map_err(|error| ("set the signal mask of a virtual CPU", error))?;
        let (sender, outcomes) = mpsc::channel();
        // The thread inherits the mask, so the signal is blocked from its first instruction.
        let blocked = BlockedSignals::all();
        let spawned = thread::Builder::new().name("kvm-probe".to_owned()).spawn(move || self.run_twice(&sender));
        drop(blocked);
        let thread = spawned.map_err(|error| ("start a thread", error))?;
        let wait = |deadline| match outcomes.recv_timeout(deadline) {
            Err(RecvTimeoutError::Timeout) => {
                // SAFETY: the thread has not been joined, so its id is valid; the signal is blocked there.
                unsafe { libc::pthread_kill(thread.as_pthread_t(), kick) };
                outcomes.recv_timeout(STOP_DEADLINE)
            }
            received => received,
        };
        let mut outcome = wait(WARM_UP_DEADLINE);
        if let Ok(Ok(Outcome::Finished { .. })) = outcome {
            outcome = wait(deadline);
        }
        // A thread that does not stop is given up: joining it would hang the caller too.
        let outcome = outcome.map_err(|_| ("stop a virtual CPU", io::ErrorKind::TimedOut.into()))?;
        let _ = thread.join();
        outcome
    }

    /// Sends the outcome of the warm-up and, if that finished, of the loop.
    fn run_twice(mut self, outcomes: &mpsc::Sender<Result<Outcome, StepError>>) {
        for rounds in [WARM_UP, LOOPS] {
            let outcome = self.run_loop(rounds);
            let finished = matches!(outcome, Ok(Outcome::Finished { .. }));
            if outcomes.send(outcome).is_err() || !finished {
                return;
            }
        }
    }

    fn run_loop(&mut self, rounds: u32) -> Result<Outcome, StepError> {
        let registers = kvm_regs { rip: CODE as u64, rcx: u64::from(rounds), rflags: RFLAGS, ..Default::default() };
        self.cpu.set_regs(&registers).map_err(step("set the registers of a virtual CPU"))?;
        let started = Instant::now();
        match self.cpu.run() {
            Ok(VcpuExit::Hlt) => Ok(Outcome::Finished { took: started.elapsed() }),
            Ok(exit) => Ok(Outcome::Unexpected { exit: format!("{exit:?}") }),
            Err(error) if error.errno() == libc::EINTR => {
                let left = self.cpu.get_regs().map_err(step("read the registers of a virtual CPU"))?.rcx;
                Ok(Outcome::Stopped { done: u64::from(rounds).saturating_sub(left) })
            }
            Err(error) => Err(step("run a virtual CPU")(error)),
        }
    }
}

/// Page tables that map the first 2 MiB onto themselves, and the loop.
fn program() -> Box<Memory> {
    let mut memory = Box::new(Memory([0; SIZE]));
    let mut write = |at: usize, bytes: &[u8]| memory.0[at..at + bytes.len()].copy_from_slice(bytes);
    write(PML4, &(PDPT as u64 | PRESENT_WRITABLE).to_le_bytes());
    write(PDPT, &(PD as u64 | PRESENT_WRITABLE).to_le_bytes());
    write(PD, &(PRESENT_WRITABLE | LARGE_PAGE).to_le_bytes());
    // 1: dec ecx; jnz 1b; hlt
    write(CODE, &[0xff, 0xc9, 0x75, 0xfc, 0xf4]);
    memory
}

fn enter_long_mode(cpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut special = cpu.get_sregs()?;
    let data =
        kvm_segment { limit: u32::MAX, type_: 3, present: 1, db: 1, s: 1, g: 1, selector: 0x10, ..Default::default() };
    special.cs = kvm_segment { type_: 11, db: 0, l: 1, selector: 0x8, ..data };
    (special.ds, special.es, special.ss) = (data, data, data);
    special.cr0 = CR0_PROTECTION_AND_PAGING;
    special.cr3 = PML4 as u64;
    special.cr4 = CR4_PAE;
    special.efer = EFER_LONG_MODE;
    cpu.set_sregs(&special)
}

/// Makes `KVM_RUN` wait with every signal blocked but `kick`.
fn set_signal_mask(cpu: &VcpuFd, kick: libc::c_int) -> io::Result<()> {
    /// `struct kvm_signal_mask` with the eight bytes of the kernel's own signal set after it.
    #[repr(C, packed)]
    struct SignalMask {
        length: u32,
        blocked: u64,
    }
    let mask = SignalMask { length: 8, blocked: !(1 << (kick - 1)) };
    // SAFETY: the descriptor is a vCPU, and the argument is what this ioctl reads, alive for the call.
    match unsafe { libc::ioctl(cpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const mask) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Every signal blocked on this thread, until dropped.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn all() -> BlockedSignals {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: `sigfillset` initialises the set it is given; `pthread_sigmask` reads that and initialises the other.
        // Neither fails for valid arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            BlockedSignals { before: before.assume_init() }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set was initialised by `all`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

fn step(name: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> StepError {
    move |error| (name, io::Error::from_raw_os_error(error.errno()))
}
