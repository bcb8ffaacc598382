//! Copies of a real process: a victim that keeps state in every place a program can, and answers requests.

use microagent_checkpoint::{Capture, Checkpoint, Error, Instruction, LoaderFailure, capture};
use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a process that was killed may take to be gone, on a host that is very busy.
const END: Duration = Duration::from_mins(1);

const DESCRIPTOR: &str = "VICTIM_DESCRIPTOR";

thread_local! {
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

/// Not a test: the process the tests make copies of. Answers each byte with a line.
#[test]
#[ignore = "run by the tests of this file"]
fn victim() {
    let descriptor: RawFd = std::env::var(DESCRIPTOR).unwrap().parse().unwrap();
    #[allow(unsafe_code)]
    // SAFETY: the test that started this process left it the descriptor for this.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let (to_worker, requests) = mpsc::channel::<f64>();
    let (to_us, answers) = mpsc::channel();
    std::thread::spawn(move || {
        for sum in requests {
            REQUESTS.set(REQUESTS.get() + 1);
            to_us.send((REQUESTS.get(), sum.sqrt())).unwrap();
        }
    });
    let mut history = Vec::new();
    let mut sum = 0.0;
    for request in BufReader::new(&socket).bytes() {
        history.push(request.unwrap());
        sum += 16.0;
        to_worker.send(sum).unwrap();
        let (served, root) = answers.recv().unwrap();
        let file = File::open("/etc/passwd").is_ok();
        writeln!(&socket, "{} {served} {root:.3} {file}", history.len()).unwrap();
    }
    std::process::exit(0);
}

struct Victim {
    child: Child,
    socket: BufReader<UnixStream>,
    /// Device and inode of its end of the socket.
    end: (u64, u64),
}

impl Victim {
    fn start(program: &Path) -> Victim {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let descriptor = 7;
        let mut command = Command::new(program);
        command.args(["--exact", "victim", "--ignored", "--nocapture"]).env(DESCRIPTOR, descriptor.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        inherit::at(&mut command, theirs.as_raw_fd(), descriptor);
        let child = command.spawn().unwrap();
        Victim { child, socket: BufReader::new(ours), end: identity(theirs) }
    }

    fn ask(&mut self) -> String {
        ask(&mut self.socket)
    }

    fn capture(&self, filter: &[Instruction]) -> Result<Checkpoint, Error> {
        let checkpoint = Checkpoint { plan: tempfile::tempfile().unwrap(), memory: tempfile::tempfile().unwrap() };
        capture(&Capture {
            pid: self.child.id().cast_signed(),
            plan: &checkpoint.plan,
            memory: &checkpoint.memory,
            provided: None,
            forgotten: &[],
            given: &[(self.end, Checkpoint::FIRST_SLOT)],
            filter,
        })?;
        Ok(checkpoint)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn identity(socket: UnixStream) -> (u64, u64) {
    let socket = File::from(OwnedFd::from(socket)).metadata().unwrap();
    (socket.dev(), socket.ino())
}

fn ask(socket: &mut BufReader<UnixStream>) -> String {
    socket.get_mut().write_all(b"?").unwrap();
    let mut line = String::new();
    socket.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn copy(checkpoint: &Checkpoint) -> (Child, BufReader<UnixStream>) {
    let (child, socket, _) = copy_with_end(checkpoint);
    (child, socket)
}

/// A copy, and what its end of the socket is.
fn copy_with_end(checkpoint: &Checkpoint) -> (Child, BufReader<UnixStream>, (u64, u64)) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut becoming = checkpoint.command(&[(Checkpoint::FIRST_SLOT, theirs.as_fd())]).unwrap();
    becoming.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    (becoming.command.spawn().unwrap(), BufReader::new(ours), identity(theirs))
}

fn this_program() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

#[test]
fn copies_go_on_from_the_same_state_and_apart() {
    let mut victim = Victim::start(&this_program());
    assert_eq!(victim.ask(), "1 1 4.000 true");
    assert_eq!(victim.ask(), "2 2 5.657 true");
    let checkpoint = victim.capture(&[]).unwrap();
    assert_eq!(victim.ask(), "3 3 6.928 true", "the original goes on");
    drop(victim);
    let (mut first, mut to_first) = copy(&checkpoint);
    let (mut second, mut to_second) = copy(&checkpoint);
    for expected in ["3 3 6.928 true", "4 4 8.000 true", "5 5 8.944 true"] {
        assert_eq!(ask(&mut to_first), expected);
    }
    assert_eq!(ask(&mut to_second), "3 3 6.928 true");
    drop((to_first, to_second));
    assert!(first.wait().unwrap().success(), "a copy ends as the original would");
    assert!(second.wait().unwrap().success());
}

#[test]
fn a_copy_of_a_copy_goes_on_too() {
    let mut victim = Victim::start(&this_program());
    victim.ask();
    let checkpoint = victim.capture(&[]).unwrap();
    let (child, socket, end) = copy_with_end(&checkpoint);
    let mut victim = Victim { child, socket, end };
    assert_eq!(victim.ask(), "2 2 5.657 true");
    let checkpoint = victim.capture(&[]).unwrap();
    let (mut child, mut socket) = copy(&checkpoint);
    assert_eq!(ask(&mut socket), "3 3 6.928 true");
    drop(socket);
    child.wait().unwrap();
}

#[test]
fn a_program_that_was_replaced_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("victim");
    std::fs::copy(this_program(), &program).unwrap();
    let mut victim = Victim::start(&program);
    victim.ask();
    let checkpoint = victim.capture(&[]).unwrap();
    drop(victim);
    let again = std::fs::read(&program).unwrap();
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, again).unwrap();
    let (mut child, _socket) = copy(&checkpoint);
    assert_eq!(LoaderFailure::of(child.wait().unwrap()), Some(LoaderFailure::FileChanged));
}

#[test]
fn a_damaged_plan_is_refused() {
    let mut victim = Victim::start(&this_program());
    victim.ask();
    let mut checkpoint = victim.capture(&[]).unwrap();
    checkpoint.plan = tempfile::tempfile().unwrap();
    checkpoint.plan.write_all(b"something else, and long enough for a header of six words").unwrap();
    let (mut child, _socket) = copy(&checkpoint);
    assert_eq!(LoaderFailure::of(child.wait().unwrap()), Some(LoaderFailure::BadPlan));
}

#[test]
fn a_descriptor_nobody_gives_anew_is_refused_by_name() {
    let mut victim = Victim::start(&this_program());
    victim.ask();
    victim.end = (0, 0);
    let error = victim.capture(&[]).unwrap_err();
    assert!(matches!(&error, Error::Descriptor { number: 7, what } if what.starts_with("socket:")), "{error}");
    assert_eq!(victim.ask(), "2 2 5.657 true", "and the process goes on");
}

#[test]
fn a_process_that_is_killed_while_it_is_captured_ends_all_the_same() {
    for round in 0..200 {
        let mut victim = Victim::start(&this_program());
        victim.ask();
        let pid = victim.child.id().cast_signed();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(20 * round));
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
        });
        // Whether that was before, after or in the middle does not matter here.
        let _ = victim.capture(&[]);
        let _ = killer.join().unwrap();
        let deadline = Instant::now() + END;
        // One whose end the tracer saw has been reaped by it.
        while matches!(victim.child.try_wait(), Ok(None)) {
            assert!(Instant::now() < deadline, "killed after {} us, it has not ended", 20 * round);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn copies_live_under_their_filter() {
    const LOAD_NUMBER: Instruction = Instruction { code: 0x20, jump_true: 0, jump_false: 0, operand: 0 };
    const IF_OPENAT: Instruction = Instruction { code: 0x15, jump_true: 0, jump_false: 1, operand: 257 };
    const PERMISSION_DENIED: Instruction = Instruction { code: 0x06, jump_true: 0, jump_false: 0, operand: 0x5_000d };
    const ALLOWED: Instruction = Instruction { code: 0x06, jump_true: 0, jump_false: 0, operand: 0x7fff_0000 };
    let mut victim = Victim::start(&this_program());
    assert_eq!(victim.ask(), "1 1 4.000 true");
    let checkpoint = victim.capture(&[LOAD_NUMBER, IF_OPENAT, PERMISSION_DENIED, ALLOWED]).unwrap();
    let (mut child, mut socket) = copy(&checkpoint);
    assert_eq!(ask(&mut socket), "2 2 5.657 false");
    drop(socket);
    child.wait().unwrap();
}

#[allow(unsafe_code)]
mod inherit {
    use std::os::fd::RawFd;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// Leaves the child a descriptor, under another number, and none of those that this process inherited itself.
    pub(super) fn at(command: &mut Command, from: RawFd, to: RawFd) {
        const FIRST: libc::c_uint = 3;
        let give = move || {
            // SAFETY: the child's descriptors are a copy of the parent's.
            let given = unsafe {
                libc::close_range(FIRST, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed());
                // To itself, a descriptor is not duplicated, and stays as it is.
                if from == to { libc::fcntl(to, libc::F_SETFD, 0) } else { libc::dup2(from, to) }
            };
            if given < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: between fork and exec the closure makes system calls only.
        unsafe { command.pre_exec(give) };
    }
}
