//! Real KVM on a machine that has none.
//!
//! QEMU emulates a computer whose AMD processor has SVM and nested paging. Linux runs on it, finds the processor able,
//! and loads `kvm-amd`; any VMM started there uses real KVM, unmodified. It is slow (every instruction of the inner
//! guest is emulated) and exact, which is what a test of the KVM paths needs.
//!
//! The machine looks like the host: every file is at its own path, read-only underneath, and whatever the command
//! writes stays in the machine's memory. So a program built here runs there without being packed or installed.
//!
//! ```no_run
//! # fn main() -> xtask::Result<()> {
//! use xtask::kvm_lab::Lab;
//!
//! let seen = Lab::prepare()?.capture(["ls", "-l", "/dev/kvm"])?;
//! assert_eq!(seen.code, 0);
//! # Ok(())
//! # }
//! ```

mod initramfs;
mod kernel;
mod product;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{Error, Result, tool};
use kernel::Kernel;
pub use product::InLab;

/// Enough for a guest of 512 MiB, its disks, and QEMU around it.
const MEMORY_MIB: u32 = 3072;
/// The machine boots in 3 s on an idle host, and everything inside runs some 20 times slower than outside.
const DEADLINE: Duration = Duration::from_mins(5);
/// How much of the console an error quotes.
const CONSOLE_LINES: usize = 5;

/// A machine with KVM, started anew for each command.
#[derive(Debug)]
pub struct Lab {
    kernel: Kernel,
    memory_mib: u32,
    deadline: Duration,
}

/// What a command in the lab left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The exit status, as a shell would say it: 128 and the signal's number for a command that was killed.
    pub code: u8,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Lab {
    /// A lab ready to start. The first one on a host downloads a kernel.
    pub fn prepare() -> Result<Lab> {
        Ok(Lab { kernel: Kernel::prepare()?, memory_mib: MEMORY_MIB, deadline: DEADLINE })
    }

    /// The same lab with `mib` MiB of memory.
    #[must_use]
    pub fn memory_mib(self, mib: u32) -> Lab {
        Lab { memory_mib: mib, ..self }
    }

    /// The same lab, which stops a command after `deadline`.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Lab {
        Lab { deadline, ..self }
    }

    /// Runs `command` as root in the current directory and returns its exit status. Its output goes to this process's.
    pub fn run(&self, command: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<u8> {
        self.start(&script(command)?, &mut io::stdout(), &mut io::stderr())
    }

    /// Runs `command` as root in the current directory and returns what became of it.
    pub fn capture(&self, command: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<Seen> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let code = self.start(&script(command)?, &mut stdout, &mut stderr)?;
        Ok(Seen { code, stdout, stderr })
    }

    fn start(&self, script: &str, stdout: &mut (impl Write + Send), stderr: &mut (impl Write + Send)) -> Result<u8> {
        let run = tempfile::tempdir().map_err(Error::file("create a directory in", "/tmp"))?;
        let initramfs = run.path().join("initramfs");
        fs::write(&initramfs, initramfs::build(&self.kernel, script)?).map_err(Error::file("write", &initramfs))?;
        let mut command = self.machine(run.path(), &initramfs);
        let mut qemu = command.spawn().map_err(tool::start(&command))?;
        let ended = relay(&mut qemu, self.deadline, stdout, stderr);
        let waited = qemu.wait().map_err(Error::file("wait for", "qemu-system-x86_64"));
        if !ended {
            return Err(Error::LabDeadline { seconds: self.deadline.as_secs() });
        }
        waited?;
        let status = fs::read_to_string(run.path().join("status")).unwrap_or_default();
        status.trim().parse().map_err(|_| Error::LabDied { console: last_lines(&run.path().join("console")) })
    }

    /// The command line of the machine, whose files are in `run`.
    fn machine(&self, run: &Path, initramfs: &Path) -> Command {
        // The kernel ends QEMU when this process is gone, however it went.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,+svm"]);
        command.args(["-smp", "2", "-m", &self.memory_mib.to_string()]);
        command.arg("-kernel").arg(self.kernel.vmlinux()).arg("-initrd").arg(initramfs);
        command.args(["-append", "console=ttyS0 quiet panic=-1 reboot=t"]);
        command.args(["-serial", &format!("file:{}", run.join("console").display())]);
        // The first virtio device, because Linux names the ports after its number.
        command.args(["-device", "virtio-serial-pci"]);
        command.args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]);
        command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
        let status = run.join("status");
        let ports = [("stdout", Path::new("/dev/stdout")), ("stderr", Path::new("/dev/stderr")), ("status", &status)];
        for (number, (name, path)) in (1..).zip(ports) {
            command.args(["-chardev", &format!("file,id={name},path={},append=on", path.display())]);
            command.args(["-device", &format!("virtserialport,chardev={name},nr={number}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Copies the machine's output until both ends are closed, which is when it ends. Kills it after `deadline`, and says
/// whether it ended before that.
fn relay(
    qemu: &mut Child,
    deadline: Duration,
    stdout: &mut (impl Write + Send),
    stderr: &mut (impl Write + Send),
) -> bool {
    let (from_stdout, from_stderr) = (qemu.stdout.take(), qemu.stderr.take());
    let (done, ended) = mpsc::channel::<()>();
    let done_too = done.clone();
    thread::scope(|scope| {
        scope.spawn(move || copy(from_stdout, stdout, done));
        scope.spawn(move || copy(from_stderr, stderr, done_too));
        // Nothing is ever sent: the channel closes when both copies have dropped their end.
        let in_time = !matches!(ended.recv_timeout(deadline), Err(mpsc::RecvTimeoutError::Timeout));
        if !in_time {
            // It fails only if the process has ended meanwhile, which is what it is for.
            let _ = qemu.kill();
        }
        in_time
    })
}

/// Copies `from` to `to` as it comes. A reader who went away ends the copy, not the command in the lab.
fn copy(from: Option<impl Read>, to: &mut impl Write, done: mpsc::Sender<()>) {
    if let Some(mut from) = from {
        let copied = io::copy(&mut from, to).and_then(|_| to.flush());
        if copied.is_err() {
            let _ = io::copy(&mut from, &mut io::sink());
        }
    }
    drop(done);
}

/// The shell script that runs `command` in the lab as it would run here.
fn script(command: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<String> {
    let directory = std::env::current_dir().map_err(Error::file("find", "the current directory"))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut script = format!("export HOME=/root PATH={}\n", tool::quote(&path));
    let _ = writeln!(script, "cd {} || exit 125", tool::quote(directory.as_os_str()));
    script.push_str("exec");
    for word in command {
        let _ = write!(script, " {}", tool::quote(word.as_ref()));
    }
    script.push('\n');
    Ok(script)
}

fn last_lines(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join(" / ")
}
