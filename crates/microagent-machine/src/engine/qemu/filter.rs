//! The system calls that a QEMU continued from a checkpoint may make.
//!
//! It has opened everything it will ever need, and what a machine brings it gets as open files. So it is held to what its work takes: it
//! can read, write and wait, and cannot open, execute, connect or look at anything. What it is not allowed fails; it does not kill it,
//! since QEMU tries things and does without them.

use microagent_checkpoint::Instruction;

/// `struct seccomp_data` (`include/uapi/linux/seccomp.h` in Linux): where the number, the architecture and the arguments are.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const ARGUMENT: u32 = 8;

/// `AT_EMPTY_PATH`: about an open file.
const EMPTY_PATH: u32 = 0x1000;

/// `AUDIT_ARCH_X86_64`. System calls of other kinds have other numbers for the same things.
const X86_64: u32 = 0xc000_003e;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const FAIL: u32 = 0x0005_0000;

/// Allowed with any arguments.
const ALLOWED: [libc::c_long; 79] = [
    libc::SYS_arch_prctl,
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_sync_file_range,
    libc::SYS_sysinfo,
    libc::SYS_time,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
];

/// What may be done to descriptors: neither signals nor locks.
const DESCRIPTOR_COMMANDS: [libc::c_int; 6] =
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// What may be asked of sockets.
const REQUESTS: [libc::Ioctl; 2] = [libc::FIONREAD, libc::FIONBIO];

/// Signals that its threads send each other: to be looked at, to end a thread, and to end with a core.
const SIGNALS: [libc::c_int; 3] = [libc::SIGUSR1, 32, libc::SIGABRT];

/// The filter.
pub(super) fn instructions() -> Vec<Instruction> {
    let mut all = vec![load(ARCHITECTURE), skip_unless(X86_64, 1, 0), give(KILL_PROCESS), load(NUMBER)];
    for call in ALLOWED {
        all.extend([skip_unless(number(call), 0, 1), give(ALLOW)]);
    }
    // Threads only. The C library asks with `clone3` first, whose arguments a filter cannot see, and makes do with `clone`.
    all.extend([skip_unless(number(libc::SYS_clone3), 0, 1), give(FAIL | libc::ENOSYS.cast_unsigned())]);
    all.extend(with_argument(libc::SYS_clone, 0, &[has_bit(libc::CLONE_THREAD.cast_unsigned())]));
    all.extend(with_argument(libc::SYS_prctl, 0, &[is(libc::PR_SET_NAME.cast_unsigned())]));
    all.extend(with_argument(libc::SYS_newfstatat, 3, &[has_bit(EMPTY_PATH)]));
    all.extend(with_argument(libc::SYS_statx, 2, &[has_bit(EMPTY_PATH)]));
    all.extend(with_argument(libc::SYS_fcntl, 1, &DESCRIPTOR_COMMANDS.map(|command| is(command.cast_unsigned()))));
    all.extend(with_argument(libc::SYS_ioctl, 1, &REQUESTS.map(|request| is(request as u32))));
    all.extend(with_argument(libc::SYS_tgkill, 2, &SIGNALS.map(|signal| is(signal.cast_unsigned()))));
    all.push(give(FAIL | libc::EPERM.cast_unsigned()));
    all
}

fn number(call: libc::c_long) -> u32 {
    call.cast_unsigned() as u32
}

/// Allows `call` if one of `tests` of its argument, counted from 0, goes on with the next instruction.
fn with_argument(call: libc::c_long, argument: u32, tests: &[Instruction]) -> Vec<Instruction> {
    let mut all = vec![load(ARGUMENTS + argument * ARGUMENT)];
    all.extend(tests.iter().flat_map(|&test| [test, give(ALLOW)]));
    all.push(give(FAIL | libc::EPERM.cast_unsigned()));
    all.insert(0, skip_unless(number(call), 0, all.len() as u8));
    all
}

/// Goes on with the next instruction when the value is `operand`.
fn is(operand: u32) -> Instruction {
    skip_unless(operand, 0, 1)
}

/// `BPF_LD | BPF_W | BPF_ABS`
fn load(offset: u32) -> Instruction {
    Instruction { code: 0x20, jump_true: 0, jump_false: 0, operand: offset }
}

/// `BPF_JMP | BPF_JEQ | BPF_K`: skips so many instructions when the value is `operand`, and so many when it is not.
fn skip_unless(operand: u32, if_equal: u8, if_not: u8) -> Instruction {
    Instruction { code: 0x15, jump_true: if_equal, jump_false: if_not, operand }
}

/// `BPF_JMP | BPF_JSET | BPF_K`, with one bit: skips the next instruction when it is not set.
fn has_bit(bit: u32) -> Instruction {
    Instruction { code: 0x45, jump_true: 0, jump_false: 1, operand: bit }
}

/// `BPF_RET | BPF_K`
fn give(verdict: u32) -> Instruction {
    Instruction { code: 0x06, jump_true: 0, jump_false: 0, operand: verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says of a call with this for its arguments, worked out the way the kernel does.
    fn verdict(architecture: u32, call: libc::c_long, argument: u32) -> u32 {
        let (program, mut at, mut value) = (instructions(), 0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            let jump = |taken| usize::from(if taken { jump_true } else { jump_false });
            match code {
                0x20 => {
                    value = match operand {
                        NUMBER => number(call),
                        ARCHITECTURE => architecture,
                        _ => argument,
                    }
                }
                0x15 => at += jump(value == operand),
                0x45 => at += jump(value & operand != 0),
                _ => return operand,
            }
        }
    }

    #[test]
    fn work_is_allowed_and_everything_else_fails() {
        let denied = FAIL | libc::EPERM.cast_unsigned();
        assert_eq!(verdict(X86_64, libc::SYS_read, 0), ALLOW);
        assert_eq!(verdict(X86_64, libc::SYS_getrusage, 0), ALLOW);
        for call in
            [libc::SYS_openat, libc::SYS_execve, libc::SYS_socket, libc::SYS_connect, libc::SYS_ptrace, libc::SYS_kill]
        {
            assert_eq!(verdict(X86_64, call, 0), denied, "{call}");
        }
    }

    #[test]
    fn threads_are_allowed_and_processes_are_not() {
        let denied = FAIL | libc::EPERM.cast_unsigned();
        assert_eq!(verdict(X86_64, libc::SYS_clone, 0x3d_0f00), ALLOW);
        assert_eq!(verdict(X86_64, libc::SYS_clone, libc::SIGCHLD.cast_unsigned()), denied);
        assert_eq!(verdict(X86_64, libc::SYS_clone3, 0), FAIL | libc::ENOSYS.cast_unsigned());
        assert_eq!(verdict(X86_64, libc::SYS_prctl, libc::PR_SET_NAME.cast_unsigned()), ALLOW);
        assert_eq!(verdict(X86_64, libc::SYS_prctl, libc::PR_SET_DUMPABLE.cast_unsigned()), denied);
    }

    #[test]
    fn only_open_files_can_be_looked_at() {
        let denied = FAIL | libc::EPERM.cast_unsigned();
        for call in [libc::SYS_newfstatat, libc::SYS_statx] {
            assert_eq!((verdict(X86_64, call, EMPTY_PATH), verdict(X86_64, call, 0)), (ALLOW, denied));
        }
    }

    #[test]
    fn no_other_process_can_be_sent_a_signal_that_matters() {
        let denied = FAIL | libc::EPERM.cast_unsigned();
        assert_eq!(verdict(X86_64, libc::SYS_tgkill, libc::SIGABRT.cast_unsigned()), ALLOW);
        assert_eq!(verdict(X86_64, libc::SYS_tgkill, libc::SIGKILL.cast_unsigned()), denied);
        assert_eq!(verdict(X86_64, libc::SYS_fcntl, libc::F_SETFL.cast_unsigned()), ALLOW);
        assert_eq!(verdict(X86_64, libc::SYS_fcntl, libc::F_SETOWN.cast_unsigned()), denied);
        assert_eq!(verdict(X86_64, libc::SYS_ioctl, libc::FIONREAD as u32), ALLOW);
        assert_eq!(verdict(X86_64, libc::SYS_ioctl, 0x8901), denied);
    }

    #[test]
    fn calls_of_another_kind_end_the_process() {
        assert_eq!(verdict(0x4000_0003, libc::SYS_read, 0), KILL_PROCESS);
    }
}
