//! The program that becomes another: works through a plan (see `format`) that turns its own process into the one that was checkpointed.
//!
//! It has no standard library, no allocator and no thread-local storage, since everything it stands on is unmapped while it runs: its own
//! code and stack are linked to an address that no other program uses, and all it does is system calls. It trusts the plan, which
//! the caller has verified; what it refuses is a world that has changed since the plan was made.

#![no_std]
#![no_main]

#[path = "../src/format.rs"]
#[allow(dead_code)]
mod format;

use core::arch::{asm, naked_asm};
use core::panic::PanicInfo;
use format::{
    ADDRESS_SPACE_END, Action, EXIT_BAD_PLAN, EXIT_CALL_FAILED, EXIT_FILE_CHANGED, Header, LOADER_ADDRESS, MAGIC,
    PLAN_ADDRESS, PLAN_SLOT, RESERVED_END, SLOTS, STAGING_ADDRESS, Step, Thread,
};

const STACK_BYTES: usize = 64 << 10;

const AT_SYSINFO_EHDR: u64 = 33;

const SYS_MMAP: u64 = 9;
const SYS_MUNMAP: u64 = 11;
const SYS_RT_SIGRETURN: u64 = 15;
const SYS_MREMAP: u64 = 25;
const SYS_DUP3: u64 = 292;
const SYS_GETTID: u64 = 186;
const SYS_CLOSE: u64 = 3;
const SYS_FSTAT: u64 = 5;
const SYS_ARCH_PRCTL: u64 = 158;
const SYS_SET_TID_ADDRESS: u64 = 218;
const SYS_EXIT_GROUP: u64 = 231;
const SYS_SET_ROBUST_LIST: u64 = 273;
const SYS_RSEQ: u64 = 334;

const PROT_READ: u64 = 1;
const MAP_PRIVATE_FIXED: u64 = 0x12;
const MREMAP_MAYMOVE_FIXED: u64 = 3;
const ARCH_SET_FS: u64 = 0x1002;

/// `CLONE_VM|FS|FILES|SIGHAND|THREAD|SYSVSEM|SETTLS|PARENT_SETTID|CHILD_CLEARTID`: a thread as pthread_create makes it.
const THREAD_FLAGS: u64 = 0x3d_0f00;

/// The stack of the loader. The one the kernel gave is where the restored process may have something.
#[repr(C, align(64))]
struct Stack([u8; STACK_BYTES]);

static mut STACK: Stack = Stack([0; STACK_BYTES]);

/// The address of the kernel's own code (the vdso) in this process, and where it was in the checkpointed one.
struct KernelCode {
    here: u64,
}

#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    // The first argument is the initial stack: argument count, arguments, environment, auxiliary vector.
    naked_asm!(
        "mov rdi, rsp",
        "lea rsp, [rip + {stack} + {bytes}]",
        "xor ebp, ebp",
        "call {main}",
        stack = sym STACK,
        bytes = const STACK_BYTES,
        main = sym run,
    )
}

unsafe extern "C" fn run(initial: *const u64) -> ! {
    let kernel_code = KernelCode { here: unsafe { vdso(initial) } };
    let header = unsafe { map_plan() };
    let steps = unsafe { core::slice::from_raw_parts(header.steps as *const Step, header.step_count as usize) };
    for step in steps {
        unsafe { perform(step, &kernel_code) };
    }
    let threads = unsafe { core::slice::from_raw_parts(header.threads as *const Thread, header.thread_count as usize) };
    let Some((leader, others)) = threads.split_first() else { exit(EXIT_BAD_PLAN) };
    for thread in others {
        if unsafe { spawn(thread) } < 0 {
            exit(EXIT_CALL_FAILED);
        }
    }
    unsafe { become_thread(leader) }
}

/// Finds the vdso in the auxiliary vector.
unsafe fn vdso(initial: *const u64) -> u64 {
    unsafe {
        let mut word = initial.add(1 + *initial as usize + 1);
        while *word != 0 {
            word = word.add(1);
        }
        let mut entry = word.add(1);
        while *entry != 0 {
            if *entry == AT_SYSINFO_EHDR {
                return *entry.add(1);
            }
            entry = entry.add(2);
        }
    }
    0
}

unsafe fn map_plan() -> &'static Header {
    let slot = u64::from(SLOTS + PLAN_SLOT);
    // The header says how much there is; the rest of the first page tells whether it is a plan at all.
    unsafe {
        let map = |length| call(SYS_MMAP, [PLAN_ADDRESS, length, PROT_READ, MAP_PRIVATE_FIXED, slot, 0]);
        if map(4096) != PLAN_ADDRESS as i64 {
            exit(EXIT_BAD_PLAN);
        }
        let header = &*(PLAN_ADDRESS as *const Header);
        let length = header.length;
        if header.magic != MAGIC || length > STAGING_ADDRESS - PLAN_ADDRESS || map(length) != PLAN_ADDRESS as i64 {
            exit(EXIT_BAD_PLAN);
        }
        header
    }
}

unsafe fn perform(step: &Step, kernel_code: &KernelCode) {
    let [first, rest @ ..] = step.arguments;
    let done = unsafe {
        match step.action {
            action if action == Action::Call as u64 => call(first, rest) == step.expected as i64,
            action if action == Action::Open as u64 => open(call(first, rest), step.expected),
            action if action == Action::Check as u64 => check(first, &rest),
            action if action == Action::Clear as u64 => clear(pieces(first, rest[0]), kernel_code),
            action if action == Action::Place as u64 => place(pieces(first, rest[0])),
            _ => exit(EXIT_BAD_PLAN),
        }
    };
    if !done {
        exit(if step.action == Action::Check as u64 { EXIT_FILE_CHANGED } else { EXIT_CALL_FAILED });
    }
}

/// Moves a new descriptor to the number it must have.
unsafe fn open(descriptor: i64, number: u64) -> bool {
    if descriptor < 0 || descriptor as u64 == number {
        return descriptor >= 0;
    }
    unsafe {
        let moved = call(SYS_DUP3, [descriptor as u64, number, 0, 0, 0, 0]) == number as i64;
        call(SYS_CLOSE, [descriptor as u64, 0, 0, 0, 0, 0]);
        moved
    }
}

/// The fields of `struct stat` that say which file it is, at their offsets in units of 8 bytes.
unsafe fn check(descriptor: u64, wanted: &[u64; 6]) -> bool {
    const OFFSETS: [usize; 5] = [0, 1, 6, 11, 12];
    let mut stat = [0_u64; 18];
    let failed = unsafe { call(SYS_FSTAT, [descriptor, stat.as_mut_ptr() as u64, 0, 0, 0, 0]) } != 0;
    !failed && OFFSETS.iter().zip(wanted).all(|(&at, &value)| stat[at] == value)
}

/// One of the kernel's own mappings in the checkpointed process: start, length, and 1 for its code.
type Piece = [u64; 3];

unsafe fn pieces(address: u64, count: u64) -> &'static [Piece] {
    unsafe { core::slice::from_raw_parts(address as *const Piece, count as usize) }
}

/// The kernel maps its pieces together, so that all of them have moved as far as its code has.
unsafe fn clear(pieces: &[Piece], kernel_code: &KernelCode) -> bool {
    let Some(code) = pieces.iter().find(|piece| piece[2] == 1) else { return false };
    let moved = kernel_code.here.wrapping_sub(code[0]);
    for piece in pieces {
        let staged = STAGING_ADDRESS + (piece[0] - pieces[0][0]);
        if !unsafe { move_mapping(piece[0].wrapping_add(moved), piece[1], staged) } {
            return false;
        }
    }
    unsafe {
        unmap(0x1_0000, LOADER_ADDRESS)
            && unmap(RESERVED_END, ADDRESS_SPACE_END)
    }
}

unsafe fn place(pieces: &[Piece]) -> bool {
    pieces.iter().all(|piece| unsafe { move_mapping(STAGING_ADDRESS + (piece[0] - pieces[0][0]), piece[1], piece[0]) })
}

unsafe fn move_mapping(from: u64, length: u64, to: u64) -> bool {
    unsafe { call(SYS_MREMAP, [from, length, length, MREMAP_MAYMOVE_FIXED, to, 0]) == to as i64 }
}

unsafe fn unmap(start: u64, end: u64) -> bool {
    unsafe { call(SYS_MUNMAP, [start, end - start, 0, 0, 0, 0]) == 0 }
}

/// Makes a thread. It never runs on a stack of ours: between its first instruction and the one that gives it its registers it makes
/// system calls only, with what it needs in registers.
unsafe fn spawn(thread: &Thread) -> i64 {
    let made: i64;
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, [r12 + {robust}]",
            "mov rsi, [r12 + {robust_length}]",
            "mov eax, {set_robust_list}",
            "syscall",
            "mov rdi, [r12 + {rseq}]",
            "test rdi, rdi",
            "jz 3f",
            "mov rsi, [r12 + {rseq_length}]",
            "xor edx, edx",
            "mov r10, [r12 + {rseq_signature}]",
            "mov eax, {set_rseq}",
            "syscall",
            "3:",
            "mov rsp, [r12 + {frame}]",
            "mov eax, {sigreturn}",
            "syscall",
            "hlt",
            "2:",
            robust = const core::mem::offset_of!(Thread, robust),
            robust_length = const core::mem::offset_of!(Thread, robust_length),
            rseq = const core::mem::offset_of!(Thread, rseq),
            rseq_length = const core::mem::offset_of!(Thread, rseq_length),
            rseq_signature = const core::mem::offset_of!(Thread, rseq_signature),
            frame = const core::mem::offset_of!(Thread, frame),
            set_robust_list = const SYS_SET_ROBUST_LIST,
            set_rseq = const SYS_RSEQ,
            sigreturn = const SYS_RT_SIGRETURN,
            inlateout("rax") 56_i64 => made,
            in("rdi") if thread.id == 0 { THREAD_FLAGS & !0x30_0000 } else { THREAD_FLAGS },
            in("rsi") thread.frame,
            in("rdx") thread.id,
            in("r10") thread.id,
            in("r8") thread.tls,
            in("r12") thread,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    made
}

unsafe fn become_thread(thread: &Thread) -> ! {
    unsafe {
        if thread.id != 0 {
            *(thread.id as *mut u32) = call(SYS_GETTID, [0; 6]) as u32;
            call(SYS_SET_TID_ADDRESS, [thread.id, 0, 0, 0, 0, 0]);
        }
        call(SYS_SET_ROBUST_LIST, [thread.robust, thread.robust_length, 0, 0, 0, 0]);
        if call(SYS_ARCH_PRCTL, [ARCH_SET_FS, thread.tls, 0, 0, 0, 0]) != 0 {
            exit(EXIT_CALL_FAILED);
        }
        if thread.rseq != 0 {
            call(SYS_RSEQ, [thread.rseq, thread.rseq_length, 0, thread.rseq_signature, 0, 0]);
        }
        asm!(
            "mov rsp, {frame}",
            "syscall",
            "hlt",
            frame = in(reg) thread.frame,
            in("rax") SYS_RT_SIGRETURN,
            options(noreturn),
        )
    }
}

unsafe fn call(number: u64, arguments: [u64; 6]) -> i64 {
    let result: i64;
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

fn exit(code: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { call(SYS_EXIT_GROUP, [code as u64, 0, 0, 0, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    exit(EXIT_BAD_PLAN)
}

/// The compiler calls these for copies it does not spell out.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack, preserves_flags));
    }
    to
}

/// See [`memcpy`].
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, inout("rcx") count => _, in("al") byte as u8, options(nostack, preserves_flags));
    }
    to
}
