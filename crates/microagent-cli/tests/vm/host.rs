//! A state directory to test in, and the command.

use microagent_testing::{Internet, Layout, run, tool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// An image with a shell: busybox, and a root user.
pub(crate) const BUSYBOX: &str = "localhost/busybox:1";
/// An image with one static program, `/echo`, and nothing else.
pub(crate) const SHELLLESS: &str = "localhost/shellless:1";

/// An image with clients of other people's: curl, Python with its library, and the key store of a Java. It is there after [`Host::import_clients`].
pub(crate) const CLIENTS: &str = "localhost/clients:1";

const COMMANDS: [&str; 38] = [
    "awk", "cat", "httpd", "ip", "nc", "nslookup", "wget", "chmod", "cut", "date", "dd", "df", "echo", "env", "false",
    "grep", "head", "hostname", "id", "kill", "ls", "mkdir", "mknod", "mount", "nproc", "ps", "pwd", "rm", "seq", "sh",
    "sleep", "stat", "sync", "tail", "touch", "true", "uname", "wc",
];

/// How long a killed engine may take to be gone, on a host that is very busy.
const ENGINE_END: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A state directory with a kernel and images in it.
pub(crate) struct Host {
    directory: TempDir,
}

/// What a finished command printed.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Fails with what the command said unless it ended with `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Ran {
        assert_eq!(self.status, status, "standard output: {}\nstandard error: {}", self.text(), self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.text(), self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        Ran {
            status: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Host {
    pub(crate) fn new() -> Host {
        let directory = tempfile::Builder::new().prefix("microagent-vm-").tempdir().unwrap();
        run(tool("cp").args(["--archive", "--link"]).arg(seed().join(".")).arg(directory.path()));
        Host { directory }
    }

    /// Makes an image of this host's own curl and Python, and what they need.
    pub(crate) fn import_clients(&self) {
        let (layout, content) = (Layout::new(), tempfile::tempdir().unwrap());
        run(tool("sh").args(["-eu", "-c", COLLECT_CLIENTS, "sh"]).arg(content.path()));
        layout.image("clients").layer(content.path(), "/").configure(&["--config.env", "JAVA_HOME=/srv/java"]);
        let source = format!("oci:{}:clients", layout.path().display());
        run(microagent(self.state()).args(["image", "import", &source, CLIENTS]));
    }

    pub(crate) fn state(&self) -> &Path {
        self.directory.path()
    }

    /// `microagent ARGUMENTS`, without input.
    pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = microagent(self.state());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same, on the host of an internet for tests.
    pub(crate) fn command_on<S: AsRef<std::ffi::OsStr>>(
        &self,
        internet: &Internet,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = clean(internet.host_command(env!("CARGO_BIN_EXE_microagent")), self.state());
        command.env("SSL_CERT_FILE", internet.ca_file()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a shell line in a small machine with busybox, on the host of an internet for tests, with more arguments before it.
    #[track_caller]
    pub(crate) fn shell_on(&self, internet: &Internet, arguments: &[&str], line: &str) -> Value {
        let run = ["--json", "run", "--profile", "tiny", "--image", BUSYBOX];
        let exec = ["--exec", line];
        let all = run.iter().chain(arguments).chain(&exec);
        Ran::from(self.command_on(internet, all).output().unwrap()).expect(0).json()
    }

    pub(crate) fn microagent<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs in a small machine, without a summary; fails unless the run completes.
    #[track_caller]
    pub(crate) fn run_quietly(&self, arguments: &[&str]) -> Ran {
        self.microagent(["run", "--quiet", "--profile", "tiny"].iter().chain(arguments)).expect(0)
    }

    /// Runs a shell line in a small machine with busybox, as JSON.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> Value {
        self.microagent(["--json", "run", "--profile", "tiny", "--image", BUSYBOX, "--exec", line]).expect(0).json()
    }

    /// Fails unless the host is as if nothing had run: no workspace, no engine process that knows of this state directory.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.microagent(["list"]).expect(0).text(), "No workspaces.\n");
        // Nothing was ever made where the directory does not exist.
        let left: Vec<_> = fs::read_dir(self.state().join("workspaces"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != ".lock")
            .collect();
        assert_eq!(left, Vec::<std::ffi::OsString>::new());
        self.assert_no_engine();
    }

    #[track_caller]
    pub(crate) fn assert_no_engine(&self) {
        assert!(self.engines().is_empty(), "engines still run: {:?}", self.engines());
    }

    /// Waits until no engine runs: the kernel kills those of a killed command at once, but does not wait for them to be gone.
    pub(crate) fn await_no_engine(&self) {
        for engine in self.engines() {
            let Ok(pidfd) = pidfd_open(Pid::from_raw(engine.cast_signed()).unwrap(), PidfdFlags::empty()) else {
                continue;
            };
            let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&ENGINE_END)).unwrap();
            assert_eq!(ended, 1, "engine {engine} outlived the command");
        }
    }

    /// Ids of the engine processes that know of this state directory: by their command lines, or by what they have open, which is all
    /// there is of a copy from a checkpoint.
    pub(crate) fn engines(&self) -> Vec<u32> {
        let state = self.state().to_str().unwrap();
        let knows = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let open = || {
                let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
                files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.starts_with(self.state()))
            };
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (line.contains("qemu-system") && line.contains(state)) || (name.starts_with("qemu-system") && open())
        };
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(knows).collect()
    }
}

impl Drop for Host {
    /// The memory of templates and captures is not in the state directory.
    fn drop(&mut self) {
        if let Ok(client) = microagent::Client::open(Some(self.state())) {
            let _ = client.prune_templates(microagent::TemplatePrune::All);
        }
    }
}

/// A command that runs in the background, and is killed with the test.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Starts `command`.
    pub(crate) fn start_silent(mut command: Command) -> Running {
        Running(Some(command.spawn().unwrap()))
    }

    /// Starts `command`, and waits until it has said `marker` on standard output.
    pub(crate) fn start(mut command: Command, marker: &str) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.as_mut().unwrap();
        let mut said = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&said).contains(marker) {
            if stdout.read(&mut byte).unwrap() == 0 {
                let output: Ran = child.wait_with_output().unwrap().into();
                panic!("ended with {} before it said {marker:?}: {}", output.status, output.stderr);
            }
            said.push(byte[0]);
        }
        Running(Some(child))
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for its end without reading what it says, and returns its status.
    pub(crate) fn wait(&mut self) -> i32 {
        self.0.as_mut().unwrap().wait().unwrap().code().unwrap()
    }

    /// Reads the rest of what it says, and waits for its end.
    pub(crate) fn finish(mut self) -> Ran {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn microagent(state: &Path) -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_microagent")), state)
}

fn clean(mut command: Command, state: &Path) -> Command {
    command.arg("--state-dir").arg(state);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MICROAGENT_") {
            command.env_remove(name);
        }
    }
    // What goes on after a run is for tests of that: others want to know what is going on.
    command.env("MICROAGENT_REHEARSAL", "off");
    command
}

/// A state directory with what every test needs, made once per build of the command.
fn seed() -> PathBuf {
    let program = fs::metadata(env!("CARGO_BIN_EXE_microagent")).unwrap();
    let cache = cache().join("vm-tests");
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    let seed = cache.join(format!("seed-{}-{}-{}", program.mtime(), program.mtime_nsec(), program.size()));
    if !seed.is_dir() {
        for old in fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            fs::remove_dir_all(old).unwrap();
        }
        let work = tempfile::tempdir_in(&cache).unwrap();
        fill(work.path());
        fs::rename(work.keep(), &seed).unwrap();
    }
    seed
}

/// Where downloads and made things are kept between runs: `MICROAGENT_TEST_CACHE`, else `.cache` in the repository.
pub(crate) fn cache() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache");
    let cache = std::env::var_os("MICROAGENT_TEST_CACHE").map_or(default, PathBuf::from);
    fs::create_dir_all(&cache).unwrap();
    cache.canonicalize().unwrap()
}

fn fill(state: &Path) {
    run(microagent(state).args(["kernel", "install"]));
    let layout = Layout::new();
    let content = tempfile::tempdir().unwrap();
    let root = content.path();
    for directory in ["bin", "etc", "tmp", "root", "home"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    let busybox = tool("busybox").get_program().to_owned();
    let busybox = find(Path::new(&busybox));
    fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    for name in COMMANDS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/home:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nagent:x:1000:\nextra:x:2000:agent\n").unwrap();
    layout
        .image("busybox")
        .layer(root, "/")
        .configure(&["--config.cmd", "/bin/sh", "--config.cmd", "-c", "--config.cmd", "echo the default command"])
        .configure(&["--config.env", "FROM_IMAGE=yes"]);
    let bare = tempfile::tempdir().unwrap();
    fs::copy(&busybox, bare.path().join("echo")).unwrap();
    layout.image("shellless").layer(bare.path(), "/").configure(&["--config.entrypoint", "/echo"]);
    for (tag, name) in [("busybox", BUSYBOX), ("shellless", SHELLLESS)] {
        let source = format!("oci:{}:{tag}", layout.path().display());
        run(microagent(state).args(["image", "import", &source, name]));
    }
}

/// Programs, the libraries they name, and those that Python loads by itself. The directories of the distribution are links to others.
const COLLECT_CLIENTS: &str = r#"
root=$1
mkdir -p $root/usr/bin $root/usr/lib64 $root/etc/ssl/certs $root/tmp $root/root
for link in bin lib lib64; do mkdir -p $root/usr/$link; ln -s usr/$link $root/$link; done
python=$(ls /usr/bin/python3.* | grep -E '^/usr/bin/python3\.[0-9]+$' | sort -V | tail -n 1)
library=$($python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
cp $(command -v busybox) /usr/bin/curl $python $root/usr/bin/
ln -s ${python##*/} $root/usr/bin/python3
for name in sh ls wc cat env sleep; do ln -s busybox $root/usr/bin/$name; done
mkdir -p $root$library
tar -C $library --exclude=test --exclude=__pycache__ --exclude='config-*' --exclude=idlelib --exclude=dist-packages -cf - . | tar -C $root$library -xf -
ldd /usr/bin/curl $python $library/lib-dynload/_ssl.*.so $library/lib-dynload/_hashlib.*.so $library/lib-dynload/_sqlite3.*.so |
    grep -o '/[^ :]*' | grep -v "^$library" | sort -u | while read -r file; do
    case $file in
        /usr/bin/*) continue ;;
        /usr/*) to=$root$file ;;
        *) to=$root/usr$file ;;
    esac
    mkdir -p "${to%/*}"
    cp -L "$file" "$to"
done
printf 'root:x:0:0:root:/root:/bin/sh\n' > $root/etc/passwd
printf 'root:x:0:\n' > $root/etc/group
# What of a Java matters here: its key store, which is empty. Nobody reads the digest at its end.
mkdir -p $root/srv/java/lib/security
printf '\376\355\376\355\0\0\0\2\0\0\0\0%020d' 0 > $root/srv/java/lib/security/cacerts
"#;

fn find(name: &Path) -> PathBuf {
    let search = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&search).map(|directory| directory.join(name)).find(|path| path.is_file()).unwrap()
}
