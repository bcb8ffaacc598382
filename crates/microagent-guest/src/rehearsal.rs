//! A little of everything that commands do.
//!
//! An emulator translates what a guest executes when it executes it for the first time, and a machine that is copied afterwards need not
//! do it again. Before a machine is frozen for that purpose, the host has it run this program as a command would be run: started, reading
//! and writing files of the image and of its own, starting others, talking through pipes and sockets. What it says and leaves behind is
//! of no interest to anybody.
//!
//! The program is the agent's own file, `/proc/1/exe`: its pages stay what they are. Translations of a program in pages that are used for
//! something else later would cost more than they save, because every write to such a page has to look for them.

use crate::sys;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// The argument that makes this program a rehearsal.
const NAME: &str = "rehearse";

/// This program, wherever its file may be.
const PROGRAM: &str = "/proc/self/exe";

/// Asks for a process that does next to nothing.
const BRIEFLY: &str = "briefly";

/// More than a pipe holds, and than a stream's window.
const OUTPUT: usize = 512 << 10;

/// Enough for the kernel to map it in more than one way.
const MEMORY: usize = 6 << 20;

/// Whether this process was started for that.
pub(crate) fn is_called_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == NAME)
}

/// Does it.
pub(crate) fn perform() -> ExitCode {
    if std::env::args_os().nth(2).is_some_and(|argument| argument == BRIEFLY) {
        return ExitCode::SUCCESS;
    }
    match perform_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform_all() -> io::Result<()> {
    files()?;
    kernel_files()?;
    processes()?;
    sockets()?;
    let mut memory = vec![0_u8; MEMORY];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::thread::sleep(Duration::from_millis(2));
    let mut given = Vec::new();
    io::stdin().read_to_end(&mut given)?;
    io::stderr().write_all(&given)?;
    io::stdout().write_all(&memory[..OUTPUT])
}

/// Files of the image, changed ones among them, and new ones.
fn files() -> io::Result<()> {
    let directory = Path::new("/tmp/rehearsal");
    fs::create_dir_all(directory)?;
    let (file, moved) = (directory.join("file"), directory.join("moved"));
    fs::write(&file, vec![b'x'; 64 << 10])?;
    OpenOptions::new().append(true).open(&file)?.write_all(b"more")?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o700))?;
    fs::rename(&file, &moved)?;
    symlink(&moved, &file)?;
    fs::read(&file)?;
    File::open(&moved)?.sync_all()?;
    for entry in fs::read_dir(directory)? {
        fs::symlink_metadata(entry?.path())?;
    }
    fs::remove_dir_all(directory)?;
    for entry in fs::read_dir("/etc")? {
        let path = entry?.path();
        if path.is_file() {
            fs::read(&path)?;
        }
    }
    OpenOptions::new().append(true).open("/etc/passwd")?.write_all(b"\n")?;
    sys::look_at_mapped(File::open(PROGRAM)?, 64 << 10)?;
    fs::metadata("/no/such/file").map(drop).or(Ok(()))
}

fn kernel_files() -> io::Result<()> {
    for file in ["/proc/self/status", "/proc/self/maps", "/proc/meminfo", "/proc/cpuinfo", "/proc/mounts"] {
        fs::read(file)?;
    }
    File::open("/dev/urandom")?.read_exact(&mut [0; 64])?;
    File::open("/dev/zero")?.read_exact(&mut [0; 4096])?;
    fs::write("/dev/null", "nothing")
}

/// Programs started the way a shell does it, and the way a library does it.
fn processes() -> io::Result<()> {
    for _ in 0..2 {
        let mut child = Command::new(PROGRAM);
        child.args([NAME, BRIEFLY]).env("A", "b").stdin(Stdio::piped());
        // With something to be done between fork and exec, so that there is a fork.
        child.uid(0);
        child.output()?;
    }
    Command::new(PROGRAM).args([NAME, BRIEFLY]).status()?;
    std::thread::spawn(|| std::thread::sleep(Duration::from_millis(1))).join().map_err(|_| io::ErrorKind::Other.into())
}

fn sockets() -> io::Result<()> {
    let (mut one, mut other) = UnixStream::pair()?;
    one.write_all(b"ping")?;
    other.read_exact(&mut [0; 4])?;
    other.set_nonblocking(true)?;
    drop(one);
    other.read(&mut [0; 4]).map(drop)
}
