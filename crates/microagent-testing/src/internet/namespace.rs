//! Network namespaces of our own.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::tool::{run, tool};

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";
/// Where it keeps the files that programs in a namespace see in the place of the host's in `/etc`.
const FILES: &str = "/etc/netns";
/// What the names of ours begin with. The process id of their owner follows.
const PREFIX: &str = "ma-";

/// How often processes are looked for.
const ROUNDS: usize = 10;
/// How long a killed process takes to end, at the most.
const ENDING: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// That this test cannot run here, which is no defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsRoot;

impl std::fmt::Display for NeedsRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("skipped: making network namespaces takes root")
    }
}

impl std::error::Error for NeedsRoot {}

/// A network namespace, gone on drop with everything that runs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// A new one, with nothing but loopback. `role` is for people who look at the list of them.
    pub fn new(role: &str) -> Result<Namespace, NeedsRoot> {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err(NeedsRoot);
        }
        SWEEP.call_once(sweep);
        let name = loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{count}-{role}", std::process::id());
            // A killed process of the same id may have left one.
            if !Path::new(NAMESPACES).join(&name).exists() && !Path::new(FILES).join(&name).exists() {
                break name;
            }
        };
        run(tool("ip").args(["netns", "add", &name]));
        let file = match File::open(Path::new(NAMESPACES).join(&name)) {
            Ok(file) => file,
            Err(error) => {
                remove(&name);
                panic!("the namespace `{name}` cannot be opened: {error}");
            }
        };
        let namespace = Namespace { name, file };
        namespace.ip("link set lo up");
        Ok(namespace)
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names the resolver that [`Namespace::command`]s find in `/etc/resolv.conf`.
    pub fn set_resolver(&self, address: IpAddr) {
        let directory = Path::new(FILES).join(&self.name);
        fs::create_dir_all(&directory).expect("creating the directory for `resolv.conf`");
        fs::write(directory.join("resolv.conf"), format!("nameserver {address}\n")).expect("writing `resolv.conf`");
    }

    /// Runs `ip` there, once for each line of `commands`.
    pub fn ip(&self, commands: &str) {
        let batch = tempfile::NamedTempFile::new().expect("creating a temporary file");
        fs::write(batch.path(), commands).expect("writing the commands");
        run(tool("ip").args(["-n", &self.name, "-batch"]).arg(batch.path()));
    }

    /// Sets a variable of the kernel there, by its path below `/proc/sys/net`.
    pub fn set(&self, variable: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(variable);
        self.enter(|| fs::write(&path, value)).unwrap_or_else(|error| panic!("writing `{}`: {error}", path.display()));
    }

    /// A command that runs `program` there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = tool("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `inside` on a thread that is there. What it opens and the threads it starts stay there.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("entering the namespace `{}`: {error}", self.name));
            inside()
        };
        let ended = thread::scope(|scope| scope.spawn(entered).join());
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Takes the namespace away, and ends what runs in it. What cannot be done is left: this runs while tests panic.
fn remove(name: &str) {
    // Held, so that no other namespace gets its number.
    let held = File::open(Path::new(NAMESPACES).join(name));
    // First, so that no further program enters it.
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = fs::remove_dir_all(Path::new(FILES).join(name));
    if let Ok(namespace) = held.and_then(|file| Ok((file.metadata()?, file))) {
        // What a process started while it was looked for is found by looking again.
        for _ in 0..ROUNDS {
            if !kill_all(&namespace.0) {
                return;
            }
        }
    }
}

/// Kills every process in the namespace but this one; false if there was none.
fn kill_all(namespace: &fs::Metadata) -> bool {
    let mut killed = false;
    for process in processes() {
        // Without this, the number could be another process's by the time of the signal.
        let Ok(held) = pidfd_open(process, PidfdFlags::empty()) else { continue };
        let its = fs::metadata(format!("/proc/{}/ns/net", process.as_raw_nonzero()));
        let is_there = its.is_ok_and(|its| its.st_ino() == namespace.st_ino() && its.st_dev() == namespace.st_dev());
        if is_there && process != getpid() {
            killed |= pidfd_send_signal(&held, Signal::KILL).is_ok();
            // A pidfd is readable when its process has ended.
            let _ = poll(&mut [PollFd::new(&held, PollFlags::IN)], Some(&ENDING));
        }
    }
    killed
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Takes away what killed test runs have left.
fn sweep() {
    let names = |directory: &str| -> io::Result<Vec<String>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let all = [NAMESPACES, FILES].into_iter().filter_map(|directory| names(directory).ok()).flatten();
    for name in all {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !PathBuf::from(format!("/proc/{owner}")).exists()) {
            remove(&name);
        }
    }
}
