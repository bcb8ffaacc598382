//! A real machine with the agent in it, and the host's end of the conversation.
//!
//! The kernel is Debian's, the base image a busybox tree, the engine QEMU in software emulation: nothing is needed of the
//! host but the tools, and a test whose tool is missing fails and names it.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod machine;

use microagent_machine::channel::{Call, Input, Output};
use microagent_machine::initramfs::Initramfs;
use microagent_machine::kernel::{Kernel, KernelStore};
use microagent_machine::{Channel, Error, agent, probe};
use microagent_protocol::{Boot, Disk, Exec, Exit, Hello, Refusal, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};
use tempfile::TempDir;

/// What takes a second on an idle host may take many on a busy one; a test that reaches this has failed.
pub(crate) const SOON: Duration = Duration::from_mins(4);

/// Name under which the base image knows an ordinary user, and its ids.
pub(crate) const USER: (&str, u32, u32) = ("app", 1000, 1001);

/// The directory of programs in the base image.
pub(crate) const PATH: &str = "PATH=/bin";

pub(crate) fn soon() -> Instant {
    Instant::now() + SOON
}

/// A tool, wherever the distribution keeps it.
pub(crate) fn tool(name: &str, package: &str) -> Command {
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
    let found = path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file());
    Command::new(found.unwrap_or_else(|| panic!("this test needs `{name}`: run `apt-get install {package}`")))
}

/// Runs a tool and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}: {text}{said}", output.status);
    text
}

/// What every machine of this test binary is made of.
struct Parts {
    kernel: Kernel,
    initramfs: Initramfs,
    base: PathBuf,
    _directory: TempDir,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let cache = env::var_os("MICROAGENT_TEST_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/kernels"), PathBuf::from);
    let kernel = KernelStore::open(&cache).ensure_default(&mut |_| {}).expect("a kernel for the guest");
    let initramfs = Initramfs::ensure(directory.path(), agent::BYTES, agent::digest(), &kernel).unwrap();
    let base = directory.path().join("base.erofs");
    let tree = directory.path().join("base");
    write_base(&tree);
    run(tool("mkfs.erofs", "erofs-utils").args(["--quiet", "--all-root"]).args([&base, &tree]));
    Parts { kernel, initramfs, base, _directory: directory }
});

fn write_base(tree: &Path) {
    let bin = tree.join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::create_dir_all(tree.join("tmp")).unwrap();
    run(Command::new("chmod").arg("1777").arg(tree.join("tmp")));
    let busybox = tool("busybox", "busybox-static");
    fs::copy(busybox.get_program(), bin.join("busybox")).unwrap();
    for applet in run(tool("busybox", "busybox-static").arg("--list")).lines().filter(|name| *name != "busybox") {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    let (name, uid, gid) = USER;
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\n{name}:x:{uid}:{gid}::/home/{name}:/bin/sh\n");
    fs::write(tree.join("etc/passwd"), passwd).unwrap();
    fs::write(tree.join("etc/group"), format!("root:x:0:\n{name}:x:{gid}:\nwheel:x:10:{name}\n")).unwrap();
    fs::write(tree.join("etc/hosts"), "the image's own\n").unwrap();
    fs::write(tree.join("bin/not-executable"), "#!/bin/sh\n").unwrap();
    fs::write(tree.join("bin/no-interpreter"), "#!/no/such/interpreter\n").unwrap();
    run(Command::new("chmod").arg("755").arg(bin.join("no-interpreter")));
    run(Command::new("chmod").arg("644").arg(bin.join("not-executable")));
}

/// An empty workspace disk.
pub(crate) fn workspace_disk(directory: &Path) -> PathBuf {
    let disk = directory.join("workspace.ext4");
    format(&disk, 512 << 20);
    disk
}

/// An empty file system.
pub(crate) fn format(disk: &Path, size: u64) {
    fs::File::create(disk).unwrap().set_len(size).unwrap();
    run(tool("mke2fs", "e2fsprogs").args(["-q", "-t", "ext4", "-E", "root_owner=0:0"]).arg(disk));
}

/// Checks a disk without repairing anything.
pub(crate) fn check(disk: &Path) {
    run(tool("e2fsck", "e2fsprogs").arg("-fn").arg(disk));
}

/// A running engine. Dropping it kills the engine.
pub(crate) struct Engine {
    process: Child,
    console: PathBuf,
}

impl Engine {
    /// Starts a machine with the base and `workspace` as disks. Returns our end of its port.
    pub(crate) fn start(workspace: &Path) -> (Engine, UnixStream) {
        Engine::start_with_port(workspace, "microagent")
    }

    /// Starts a machine whose port has another name.
    pub(crate) fn start_with_port(workspace: &Path, port: &str) -> (Engine, UnixStream) {
        Engine::start_with(workspace, port, &[])
    }

    /// Starts a machine with more disks: the serial number of each, its file, and whether it is read-only.
    pub(crate) fn start_with(workspace: &Path, port: &str, more: &[(&str, &Path, bool)]) -> (Engine, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let console = workspace.with_extension("console");
        let append = format!(
            "console=ttyS0 quiet reboot=t panic=-1 no_timer_check tsc=reliable tsc_early_khz={}",
            probe::measure_tsc_khz().expect("the rate of the host's time stamp counter")
        );
        let mut qemu = tool("qemu-system-x86_64", "qemu-system-x86");
        qemu.args(["-M", "microvm,acpi=on,rtc=on", "-accel", "tcg", "-cpu", "max", "-m", "256", "-display", "none"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-append", &append])
            .arg("-kernel")
            .arg(&PARTS.kernel.image)
            .arg("-initrd")
            .arg(&PARTS.initramfs.path)
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-device", "virtio-serial-device,max_ports=2", "-chardev", "socket,id=agent,fd=0"])
            .args(["-device", &format!("virtserialport,chardev=agent,name={port}")]);
        let disks = [("base", PARTS.base.as_path(), true), ("workspace", workspace, false)];
        for (serial, image, read_only) in disks.iter().chain(more).copied() {
            let access = if read_only { "on" } else { "off" };
            qemu.args(["-device", &format!("virtio-blk-device,drive={serial},serial={serial}"), "-drive"]).arg(
                format!("id={serial},if=none,format=raw,file.locking=off,readonly={access},file={}", image.display()),
            );
        }
        let process = qemu.stdin(OwnedFd::from(theirs)).spawn().unwrap();
        (Engine { process, console }, ours)
    }

    /// Waits until the engine has ended by itself.
    pub(crate) fn ended(&mut self) {
        let pidfd = pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty()).unwrap();
        let timeout = Timespec { tv_sec: SOON.as_secs().cast_signed(), tv_nsec: 0 };
        let count = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(count, 1, "the machine is still there; its console: {}", self.console());
        self.process.wait().unwrap();
    }

    /// What the guest wrote to its console.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A booted machine and its workspace.
pub(crate) struct Guest {
    pub(crate) channel: Channel,
    pub(crate) engine: Engine,
    pub(crate) hello: Hello,
    pub(crate) directory: TempDir,
}

impl Guest {
    /// A machine with a new workspace.
    pub(crate) fn boot() -> Guest {
        let directory = tempfile::tempdir().unwrap();
        workspace_disk(directory.path());
        let guest = Guest::greet(directory);
        guest.ask(&Request::Boot(boot_request())).unwrap();
        guest
    }

    /// A machine that has said hello and is nobody's yet, with the workspace disk in `directory`.
    pub(crate) fn greet(directory: TempDir) -> Guest {
        Guest::greet_with(directory, &[])
    }

    /// The same with more disks.
    pub(crate) fn greet_with(directory: TempDir, disks: &[(&str, &Path, bool)]) -> Guest {
        let workspace = directory.path().join("workspace.ext4");
        let (engine, stream) = Engine::start_with(&workspace, "microagent", disks);
        let channel = Channel::open(stream).unwrap();
        let hello = channel.hello(soon()).unwrap_or_else(|error| panic!("{error}; console: {}", engine.console()));
        Guest { channel, engine, hello, directory }
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Refusal> {
        answer(&self.channel.call(request).unwrap())
    }

    /// Starts a command.
    pub(crate) fn start(&self, exec: Exec) -> Running {
        let (stdout, stderr) = (self.channel.output(), self.channel.output());
        let stdin = exec.stdin.map(|_| self.channel.input());
        let exec = Exec { stdout: stdout.id(), stderr: stderr.id(), stdin: stdin.as_ref().map(Input::id), ..exec };
        let call = self.channel.call(&Request::Exec(exec)).unwrap();
        Running { call, stdin, stdout, stderr }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, exec: Exec) -> Result<Finished, Refusal> {
        self.start(exec).finish()
    }

    /// Runs a shell script that must succeed without a word on standard error, and returns what it printed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let finished = self.run(shell(script)).unwrap();
        let complaints = String::from_utf8_lossy(&finished.stderr);
        assert_eq!((finished.exit.code, &*complaints), (Some(0), ""), "{script}");
        String::from_utf8(finished.stdout).unwrap()
    }

    /// Shuts the machine down and gives back its disk.
    pub(crate) fn shut_down(mut self) -> TempDir {
        assert_eq!(self.ask(&Request::Shutdown), Ok(Reply::Done));
        let _ = self.engine.process.kill();
        self.engine.process.wait().unwrap();
        self.directory
    }
}

/// A command that was started.
pub(crate) struct Running {
    pub(crate) call: Call,
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// A command that ran.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Running {
    /// Sends no (more) input, reads both outputs to their end, and waits for the reply.
    pub(crate) fn finish(self) -> Result<Finished, Refusal> {
        let Running { call, stdin, mut stdout, mut stderr } = self;
        drop(stdin);
        let errors = thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).unwrap();
        let stderr = errors.join().unwrap().unwrap();
        match answer(&call)? {
            Reply::Exited(exit) => Ok(Finished { exit, stdout: output, stderr }),
            other => panic!("{other:?} in reply to a command"),
        }
    }
}

pub(crate) fn answer(call: &Call) -> Result<Reply, Refusal> {
    match call.wait(Some(soon())) {
        Ok(reply) => Ok(reply),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

/// A command with nothing special about it.
pub(crate) fn command(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: vec![PATH.to_owned()],
        cwd: "/".to_owned(),
        user: String::new(),
        tty: None,
        stdin: None,
        stdout: 0,
        stderr: 0,
        drain_ms: 60_000,
    }
}

pub(crate) fn shell(script: &str) -> Exec {
    command(&["sh", "-c", script])
}

/// The same command with a standard input; [`Guest::start`] opens the stream.
pub(crate) fn with_input(exec: Exec) -> Exec {
    Exec { stdin: Some(0), ..exec }
}

pub(crate) fn boot_request() -> Boot {
    let disk = |serial: &str, filesystem: &str| Disk { serial: serial.to_owned(), filesystem: filesystem.to_owned() };
    Boot {
        base: disk("base", "erofs"),
        workspace: disk("workspace", "ext4"),
        mounts: Vec::new(),
        hostname: "testbox".to_owned(),
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        epoch_ns: now_ns(),
        entropy: (0..64).collect(),
        network: None,
        trust: Vec::new(),
        roots: String::new(),
        java_home: None,
        secrets: false,
        sockets: Vec::new(),
    }
}

/// The host's clock, in nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

impl Guest {
    /// The file or tree at `path`, as an archive.
    pub(crate) fn pack(&self, path: &str, name: &str) -> Result<Vec<u8>, Refusal> {
        self.download(|output| Request::Pack { path: path.to_owned(), name: name.to_owned(), follow: false, output })
    }

    /// Everything the guest sends in answer to a request that takes a stream.
    pub(crate) fn download(&self, request: impl FnOnce(u32) -> Request) -> Result<Vec<u8>, Refusal> {
        let mut output = self.channel.output();
        let call = self.channel.call(&request(output.id())).unwrap();
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).unwrap();
        answer(&call).map(|reply| {
            assert_eq!(reply, Reply::Done);
            bytes
        })
    }

    /// Unpacks an archive in the workspace, as whoever it says.
    pub(crate) fn unpack(&self, directory: &str, archive: &[u8]) -> Result<(), Refusal> {
        let mut input = self.channel.input();
        let request = Request::Unpack {
            directory: directory.to_owned(),
            input: input.id(),
            owner: microagent_protocol::Owner::Keep,
        };
        let call = self.channel.call(&request).unwrap();
        // A guest that refuses takes no more.
        let _ = std::io::Write::write_all(&mut input, archive);
        drop(input);
        answer(&call).map(|reply| assert_eq!(reply, Reply::Done))
    }
}
