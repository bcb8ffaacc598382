//! A process held still, and what can only be learned of it by holding it.

use crate::Error;
use crate::frame::ExtendedState;
use libc::{c_void, pid_t, user_regs_struct as Registers};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// Longest extended state there is: AVX-512 and AMX take 11 KiB.
const MAX_EXTENDED_STATE: usize = 64 << 10;

/// Signals are numbered from 1 to this.
pub(crate) const SIGNALS: u64 = 64;

/// Results with which the kernel marks a system call to be begun again when the thread goes on (`include/linux/errno.h` in Linux).
const RESTART: [i64; 4] = [-512, -513, -514, -516];

/// The instruction `syscall`, with which a waiting thread came into the kernel.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A signal handler: `struct kernel_sigaction`, as four words: handler, flags, restorer, mask.
pub(crate) type Handler = [u64; 4];

/// A process whose threads are all stopped. Dropping it lets them go on.
pub(crate) struct Tracee {
    pub(crate) pid: pid_t,
    threads: Vec<pid_t>,
}

/// A stopped thread.
pub(crate) struct StoppedThread {
    /// Such that going on from them begins the system call again that it is waiting in.
    pub(crate) registers: Registers,
    pub(crate) extended: ExtendedState,
    pub(crate) signal_mask: u64,
    pub(crate) robust: (u64, u64),
    /// Address, length, signature.
    pub(crate) rseq: (u64, u64, u64),
    /// Where the C library keeps the thread's id.
    pub(crate) id_address: Option<u64>,
}

fn failed(action: &'static str) -> Error {
    Error::Trace { action, source: io::Error::last_os_error() }
}

/// How often the end of a thread that was killed is looked for, and how long it is left alone in between.
const REAP_ATTEMPTS: u32 = 1000;
const REAP_AGAIN: Duration = Duration::from_millis(2);

impl Tracee {
    /// Stops every thread. A process that starts threads meanwhile is not one that waits.
    pub(crate) fn stop(pid: i32) -> Result<Tracee, Error> {
        let mut tracee = Tracee { pid, threads: Vec::new() };
        for id in thread_ids(pid)? {
            // SAFETY: these requests take no pointers.
            if unsafe { libc::ptrace(libc::PTRACE_SEIZE, id, 0, 0) } != 0 {
                // One that has ended since it was listed.
                let has_ended = io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
                return Err(if has_ended { Error::Busy } else { failed("trace") });
            }
            tracee.threads.push(id);
            // SAFETY: as above.
            if unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, id, 0, 0) } != 0 {
                return Err(failed("stop"));
            }
            wait(id)?;
        }
        // The one that led the process comes first.
        tracee.threads.sort_by_key(|&id| (id != pid, id));
        if thread_ids(pid)?.len() != tracee.threads.len() {
            return Err(Error::Busy);
        }
        Ok(tracee)
    }

    /// The state of every thread, the one that led the process first.
    pub(crate) fn threads(&self) -> Result<Vec<StoppedThread>, Error> {
        self.threads.iter().map(|&id| self.thread(id)).collect()
    }

    fn thread(&self, id: pid_t) -> Result<StoppedThread, Error> {
        let mut registers = registers(id)?;
        // One that runs may hold a lock, which knows its owner by a thread id that no thread of a copy will have.
        if registers.orig_rax.cast_signed() < 0 || !RESTART.contains(&registers.rax.cast_signed()) {
            return Err(Error::Busy);
        }
        registers.rax = registers.orig_rax;
        registers.rip -= SYSCALL.len() as u64;
        if self.read::<2>(registers.rip)? != SYSCALL {
            return Err(Error::Busy);
        }
        Ok(StoppedThread {
            extended: extended_state(id)?,
            signal_mask: signal_mask(id)?,
            robust: robust_list(id)?,
            rseq: rseq(id)?,
            id_address: self.id_address(id, registers.fs_base)?,
            registers,
        })
    }

    /// The C library keeps a thread's id in its control block, which thread-local storage ends with.
    fn id_address(&self, id: pid_t, control_block: u64) -> Result<Option<u64>, Error> {
        const SEARCHED: usize = 1024;
        let block = self.read::<SEARCHED>(control_block)?;
        let wanted = id.to_ne_bytes();
        Ok(block.chunks_exact(4).position(|word| word == wanted).map(|at| control_block + 4 * at as u64))
    }

    /// Reads its memory.
    fn read<const N: usize>(&self, address: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: N };
        let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: N };
        // SAFETY: the local vector is an array of ours of that length; the kernel checks the remote one.
        let read = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        if usize::try_from(read) == Ok(N) { Ok(bytes) } else { Err(failed("read the memory of")) }
    }

    /// The handler of every signal from 1 on. No file tells them, so the process is made to ask itself.
    pub(crate) fn signal_handlers(&self) -> Result<Vec<Handler>, Error> {
        // All its threads share them. Of a process that is killed meanwhile, the end of the leading thread is told only once that of the
        // others is known, so where there are others, one of those asks: waiting for the leading one would never end.
        let Some(&asked) = self.threads.last() else { return Err(Error::Busy) };
        let before = registers(asked)?;
        let handlers = (1..=SIGNALS).map(|signal| self.signal_handler(asked, &before, signal)).collect();
        set_registers(asked, &before)?;
        handlers
    }

    fn signal_handler(&self, asked: pid_t, before: &Registers, signal: u64) -> Result<Handler, Error> {
        const RT_SIGACTION: u64 = 13;
        /// Below the stack pointer, and below the 128 bytes there that belong to the interrupted function.
        const BELOW_STACK: u64 = 1024;
        let result = before.rsp - BELOW_STACK;
        let mut asking = *before;
        asking.rip -= SYSCALL.len() as u64;
        asking.rax = RT_SIGACTION;
        // Not in a system call, so that there is none to begin again.
        asking.orig_rax = u64::MAX;
        (asking.rdi, asking.rsi, asking.rdx, asking.r10) = (signal, 0, result, 8);
        set_registers(asked, &asking)?;
        // SAFETY: the request takes no pointers.
        if unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, asked, 0, 0) } != 0 {
            return Err(failed("ask for the signal handlers of"));
        }
        wait(asked)?;
        if registers(asked)?.rax != 0 {
            return Err(Error::Proc { what: "signal handlers" });
        }
        let bytes = self.read::<32>(result)?;
        Ok(std::array::from_fn(|at| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[8 * at + byte]))))
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        for &id in &self.threads {
            // SAFETY: the request takes no pointers.
            let detached = unsafe { libc::ptrace(libc::PTRACE_DETACH, id, 0, 0) } == 0;
            if !detached && id != self.pid {
                reap(id);
            }
        }
    }
}

/// Takes note of the end of a thread that was killed while it was traced: until then its process has not ended for anybody. That of the
/// leading thread is for the process's parent to take note of.
fn reap(id: pid_t) {
    for _ in 0..REAP_ATTEMPTS {
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        match unsafe { libc::waitpid(id, &raw mut status, libc::__WALL | libc::WNOHANG) } {
            // It is about to end.
            0 => std::thread::sleep(REAP_AGAIN),
            waited if waited == id && libc::WIFSTOPPED(status) => {
                // SAFETY: the request takes no pointers.
                unsafe { libc::ptrace(libc::PTRACE_DETACH, id, 0, 0) };
            }
            // It has ended, and is known to have.
            _ => return,
        }
    }
}

fn thread_ids(pid: pid_t) -> Result<Vec<pid_t>, Error> {
    let list = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|source| Error::Trace { action: "list the threads of", source })?;
    Ok(list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Waits until a traced thread has stopped.
fn wait(id: pid_t) -> Result<(), Error> {
    let mut status = 0;
    loop {
        // SAFETY: the status is ours to write to.
        let waited = unsafe { libc::waitpid(id, &raw mut status, libc::__WALL) };
        if waited == id && libc::WIFSTOPPED(status) {
            return Ok(());
        }
        if waited == id {
            return Err(Error::Busy);
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Err(failed("wait for"));
        }
    }
}

fn registers(id: pid_t) -> Result<Registers, Error> {
    let mut registers = MaybeUninit::<Registers>::zeroed();
    // SAFETY: the request fills the structure, which is valid with any content.
    unsafe {
        if libc::ptrace(libc::PTRACE_GETREGS, id, 0, registers.as_mut_ptr()) != 0 {
            return Err(failed("read the registers of"));
        }
        Ok(registers.assume_init())
    }
}

fn set_registers(id: pid_t, registers: &Registers) -> Result<(), Error> {
    // SAFETY: the request reads the structure.
    match unsafe { libc::ptrace(libc::PTRACE_SETREGS, id, 0, ptr::from_ref(registers)) } {
        0 => Ok(()),
        _ => Err(failed("set the registers of")),
    }
}

fn extended_state(id: pid_t) -> Result<ExtendedState, Error> {
    const NT_X86_XSTATE: usize = 0x202;
    let mut state = vec![0_u8; MAX_EXTENDED_STATE];
    let mut vector = libc::iovec { iov_base: state.as_mut_ptr().cast(), iov_len: state.len() };
    // SAFETY: the vector is a buffer of ours of that length.
    if unsafe { libc::ptrace(libc::PTRACE_GETREGSET, id, NT_X86_XSTATE, &raw mut vector) } != 0 {
        return Err(failed("read the vector registers of"));
    }
    state.truncate(vector.iov_len);
    Ok(state)
}

fn signal_mask(id: pid_t) -> Result<u64, Error> {
    const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
    let mut mask = 0_u64;
    // SAFETY: the request writes eight bytes.
    match unsafe { libc::ptrace(PTRACE_GETSIGMASK, id, size_of::<u64>(), &raw mut mask) } {
        0 => Ok(mask),
        _ => Err(failed("read the signal mask of")),
    }
}

fn robust_list(id: pid_t) -> Result<(u64, u64), Error> {
    let (mut head, mut length) = (0_u64, 0_u64);
    // SAFETY: the call writes two words.
    match unsafe { libc::syscall(libc::SYS_get_robust_list, id, &raw mut head, &raw mut length) } {
        0 => Ok((head, length)),
        _ => Err(failed("find the robust locks of")),
    }
}

/// A kernel that cannot say (before 5.13) may know of an area all the same, so that is an error.
fn rseq(id: pid_t) -> Result<(u64, u64, u64), Error> {
    const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
    /// `struct ptrace_rseq_configuration`.
    #[repr(C)]
    #[derive(Default)]
    struct Configuration {
        address: u64,
        length: u32,
        signature: u32,
        flags: u32,
        padding: u32,
    }
    let mut found = Configuration::default();
    // SAFETY: the request fills the structure, whose length it is given.
    let got = unsafe { libc::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, id, size_of::<Configuration>(), &raw mut found) };
    if got < 0 {
        return Err(failed("find the restartable sequences of"));
    }
    Ok((found.address, found.length.into(), found.signature.into()))
}
