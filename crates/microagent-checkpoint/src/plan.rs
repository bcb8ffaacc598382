//! Writes a plan (see [`crate::format`]).

use crate::format::{Action, Header, MAGIC, PLAN_ADDRESS, Step, Thread};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Numbers of system calls (`arch/x86/entry/syscalls/syscall_64.tbl` in Linux).
pub(crate) mod number {
    pub(crate) const OPENAT: u64 = 257;
    pub(crate) const MMAP: u64 = 9;
    pub(crate) const RT_SIGACTION: u64 = 13;
    pub(crate) const FCNTL: u64 = 72;
    pub(crate) const PRCTL: u64 = 157;
    pub(crate) const SECCOMP: u64 = 317;
    pub(crate) const SIGNALFD4: u64 = 289;
    pub(crate) const EVENTFD2: u64 = 290;
    pub(crate) const DUP3: u64 = 292;
    pub(crate) const CLOSE_RANGE: u64 = 436;
}

/// An instruction of a system call filter: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// A plan in the making.
#[derive(Default)]
pub(crate) struct Plan {
    steps: Vec<Step>,
    threads: Vec<Thread>,
    /// What steps and threads point at; it begins right after the header.
    data: Vec<u8>,
}

const HEADER: usize = size_of::<Header>();

impl Plan {
    /// Adds data that steps can point at, and gives its address.
    pub(crate) fn data(&mut self, bytes: &[u8], alignment: usize) -> u64 {
        let at = (HEADER + self.data.len()).next_multiple_of(alignment);
        self.data.resize(at - HEADER, 0);
        self.data.extend_from_slice(bytes);
        PLAN_ADDRESS + at as u64
    }

    /// Adds words that steps can point at, and gives their address.
    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.data(&bytes, align_of::<u64>())
    }

    /// A string for the kernel.
    pub(crate) fn string(&mut self, text: &str) -> u64 {
        self.data(&[text.as_bytes(), b"\0"].concat(), 1)
    }

    /// A system call with its arguments; its result must be `expected`.
    pub(crate) fn call(&mut self, number: u64, arguments: &[u64], expected: u64) {
        self.step(Action::Call, &[&[number], arguments].concat(), expected);
    }

    /// A system call that gives a descriptor, which becomes `descriptor`.
    pub(crate) fn open(&mut self, number: u64, arguments: &[u64], descriptor: u64) {
        self.step(Action::Open, &[&[number], arguments].concat(), descriptor);
    }

    /// Opens a file, whose descriptor becomes `descriptor`.
    pub(crate) fn open_path(&mut self, path: &str, flags: u64, descriptor: u64) {
        const AT_FDCWD: u64 = (-100_i64).cast_unsigned();
        let path = self.string(path);
        self.open(number::OPENAT, &[AT_FDCWD, path, flags, 0], descriptor);
    }

    /// Another step.
    pub(crate) fn step(&mut self, action: Action, arguments: &[u64], expected: u64) {
        let mut all = [0; 7];
        all[..arguments.len()].copy_from_slice(arguments);
        self.steps.push(Step { action: action as u64, arguments: all, expected });
    }

    pub(crate) fn thread(&mut self, thread: Thread) {
        self.threads.push(thread);
    }

    pub(crate) fn write(mut self, file: &File) -> io::Result<()> {
        let steps: Vec<u64> = self.steps.iter().flat_map(step_words).collect();
        let threads: Vec<u64> = self.threads.iter().flat_map(thread_words).collect();
        let (steps, threads) = (self.words(&steps), self.words(&threads));
        let header = [
            MAGIC,
            (HEADER + self.data.len()) as u64,
            steps,
            self.steps.len() as u64,
            threads,
            self.threads.len() as u64,
        ];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.append(&mut self.data);
        file.set_len(0)?;
        file.write_all_at(&bytes, 0)
    }
}

fn step_words(step: &Step) -> Vec<u64> {
    [&[step.action], &step.arguments[..], &[step.expected]].concat()
}

fn thread_words(thread: &Thread) -> [u64; 8] {
    let Thread { tls, id, robust, robust_length, rseq, rseq_length, rseq_signature, frame } = *thread;
    [tls, id, robust, robust_length, rseq, rseq_length, rseq_signature, frame]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_word_by_word_has_the_layout_the_loader_reads() {
        assert_eq!(size_of::<Header>(), 6 * 8);
        assert_eq!(size_of::<Step>(), 9 * 8);
        assert_eq!(size_of::<Thread>(), 8 * 8);
    }

    #[test]
    fn data_lies_where_its_address_says() {
        let mut plan = Plan::default();
        plan.data(b"x", 1);
        let address = plan.data(b"words", 64);
        assert_eq!(address % 64, 0);
        let file = tempfile::tempfile().unwrap();
        plan.write(&file).unwrap();
        let mut found = [0; 5];
        file.read_exact_at(&mut found, address - PLAN_ADDRESS).unwrap();
        assert_eq!(&found, b"words");
    }
}
