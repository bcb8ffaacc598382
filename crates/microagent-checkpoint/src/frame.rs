//! Signal frames: how registers are given to a thread.
//!
//! The kernel writes the registers of an interrupted thread to its stack as a `struct ucontext` and takes them back from there when the
//! handler returns (`arch/x86/include/uapi/asm/sigcontext.h`, `ucontext.h` in Linux). A frame that no kernel wrote does as well.

use crate::plan::Plan;
use libc::user_regs_struct as Registers;

/// Saved registers of a thread beyond the general ones, in the layout of `XSAVE`.
pub(crate) type ExtendedState = Vec<u8>;

/// `UC_FP_XSTATE`, `UC_SIGCONTEXT_SS` and `UC_STRICT_RESTORE_SS`.
const FLAGS: u64 = 7;

/// `SS_DISABLE`: no alternative signal stack.
const NO_SIGNAL_STACK: u64 = 2;

/// Marks the state as extended, at the end of its legacy part.
const MAGIC_1: u32 = 0x4650_5853;
/// Marks its end.
const MAGIC_2: u32 = 0x4650_5845;

/// Where the legacy part has room for software: `struct _fpx_sw_bytes`.
const SOFTWARE: usize = 464;
const SOFTWARE_END: usize = 512;

/// Adds the frame of a thread to `plan`, and gives its address.
pub(crate) fn add(plan: &mut Plan, registers: &Registers, mask: u64, extended: &ExtendedState) -> u64 {
    let state = plan.data(&with_markers(extended), 64);
    let r = registers;
    let segments = (r.cs & 0xffff) | (r.ss & 0xffff) << 48;
    let no_link = 0;
    let signal_stack = [0, NO_SIGNAL_STACK, 0];
    let general = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp,
        r.rip, r.eflags, segments,
    ];
    let (error, trap, old_mask, fault) = (0, 0, 0, 0);
    let words: Vec<u64> = [FLAGS, no_link]
        .into_iter()
        .chain(signal_stack)
        .chain(general)
        .chain([error, trap, old_mask, fault, state])
        .chain([0; 8])
        .chain([mask])
        .collect();
    plan.words(&words)
}

/// The state as the kernel takes it back: it says itself how long it is and what it has.
fn with_markers(extended: &ExtendedState) -> Vec<u8> {
    let length = extended.len() as u32;
    let mut state = extended.clone();
    // The kernel tells a tracer there which parts of the state exist.
    let features: [u8; 8] = state[SOFTWARE..SOFTWARE + 8].try_into().expect("eight bytes");
    let software = [&MAGIC_1.to_ne_bytes()[..], &(length + 4).to_ne_bytes(), &features, &length.to_ne_bytes()].concat();
    state[SOFTWARE..SOFTWARE_END].fill(0);
    state[SOFTWARE..SOFTWARE + software.len()].copy_from_slice(&software);
    state.extend(MAGIC_2.to_ne_bytes());
    state
}
