//! The plan: what the loader does, as data.
//!
//! A plan is a file that the loader maps at [`PLAN_ADDRESS`] and works through from front to back. Everything in it is in the machine's
//! own layout, and every pointer in it is an address inside the mapping, so nothing is parsed. It begins with a [`Header`].
//!
//! Descriptors come in two ranges. Those below [`SLOTS`] are the restored process's own. The caller of the loader leaves what it gives
//! to the process at `SLOTS + n`, where the plan picks it up; the loader closes everything from there on at the end.

/// Where the loader is linked to run. No program is mapped anywhere near: kernel and linkers place programs at the bottom of the address
/// space, around `0x5500_0000_0000` and below `0x8000_0000_0000`.
pub(crate) const LOADER_ADDRESS: u64 = 0x3000_0000_0000;

/// Where the plan is mapped.
pub(crate) const PLAN_ADDRESS: u64 = 0x3000_1000_0000;

/// Where mappings of the kernel wait while their place is being cleared.
pub(crate) const STAGING_ADDRESS: u64 = 0x3000_4000_0000;

/// The end of what loader, plan and staged mappings may use.
pub(crate) const RESERVED_END: u64 = 0x3000_8000_0000;

/// The end of the address space of a process.
pub(crate) const ADDRESS_SPACE_END: u64 = 0x7fff_ffff_f000;

/// First of the descriptors that a plan reads its files from.
pub(crate) const SLOTS: u32 = 300;

/// The slot of the plan itself.
pub(crate) const PLAN_SLOT: u32 = 0;

/// The slot of the saved memory.
pub(crate) const MEMORY_SLOT: u32 = 1;

/// Changes with the layout.
pub(crate) const MAGIC: u64 = 0x6d61_7468_6177_3031;

/// The loader refuses before it has changed anything but its own descriptors: a file is not the one that was mapped.
pub(crate) const EXIT_FILE_CHANGED: i32 = 120;
/// A plan of another version, or one that cannot be mapped.
pub(crate) const EXIT_BAD_PLAN: i32 = 121;
/// A system call of the plan failed.
pub(crate) const EXIT_CALL_FAILED: i32 = 122;

/// The beginning of a plan.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    /// [`MAGIC`].
    pub(crate) magic: u64,
    /// Length of the whole file in bytes.
    pub(crate) length: u64,
    /// Address of the [`Step`]s.
    pub(crate) steps: u64,
    /// Their number.
    pub(crate) step_count: u64,
    /// Address of the [`Thread`]s; the first is the one that led the process.
    pub(crate) threads: u64,
    /// Their number.
    pub(crate) thread_count: u64,
}

/// What a [`Step`] does.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// System call `arguments[0]` with `arguments[1..7]`. Its result must be `expected`.
    Call = 0,
    /// A system call that gives a new descriptor, which is then moved to the number `expected`; a negative one is refused.
    Open = 1,
    /// Descriptor `arguments[0]` must be a file of device, inode, size, modification seconds and nanoseconds `arguments[1..6]`.
    Check = 2,
    /// Unmaps everything but loader, plan and the kernel's own mappings, which are moved out of the way: `arguments[0]` is the address
    /// of that many triples as `arguments[1]` says, of start, length and 1 for the one that holds the kernel's code, in the order of
    /// their addresses.
    Clear = 3,
    /// Moves the mappings that `Clear` staged to where the triples, given again, say.
    Place = 4,
}

/// One thing to do.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// An [`Action`].
    pub(crate) action: u64,
    /// See the action.
    pub(crate) arguments: [u64; 7],
    /// See the action.
    pub(crate) expected: u64,
}

/// A thread. Threads are made after the last step and begin where `frame` says.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// Base of its thread-local storage.
    pub(crate) tls: u64,
    /// Where its id is kept for the program to read and for the kernel to clear, or 0.
    pub(crate) id: u64,
    /// Its list of robust locks, and the length of the head.
    pub(crate) robust: u64,
    /// See `robust`.
    pub(crate) robust_length: u64,
    /// Its restartable sequences area, or 0; length and signature.
    pub(crate) rseq: u64,
    /// See `rseq`.
    pub(crate) rseq_length: u64,
    /// See `rseq`.
    pub(crate) rseq_signature: u64,
    /// Address of the signal frame that holds its registers (`struct ucontext` as `rt_sigreturn` takes it).
    pub(crate) frame: u64,
}
