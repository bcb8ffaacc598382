//! A workspace that runs, and what is done with it.

use crate::host::{BUSYBOX, Host, Ran};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Name of the workspace.
pub(super) const NAME: &str = "box";

/// How long anything that has to end by itself may take to do so, on a host that is very busy.
pub(super) const LIMIT: Duration = Duration::from_mins(3);

/// A promise, by name, and what finds out whether it is kept.
pub(super) type Case = (&'static str, fn(&Workspace));

/// A workspace that runs.
pub(super) struct Workspace {
    pub(super) host: Host,
}

impl Workspace {
    /// One of the image with a shell.
    pub(super) fn start() -> Workspace {
        Workspace::start_with(&["--image", BUSYBOX])
    }

    /// One that is made with `flags`.
    pub(super) fn start_with(flags: &[&str]) -> Workspace {
        let workspace = Workspace::create(Host::new(), flags);
        workspace.host.microagent(["start", NAME]).expect(0);
        workspace
    }

    /// One that does not run yet.
    pub(super) fn create(host: Host, flags: &[&str]) -> Workspace {
        host.microagent(["create", NAME, "--profile", "tiny"].iter().chain(flags)).expect(0);
        Workspace { host }
    }

    /// Finds out about all of `cases`, in a machine that stays well, and fails with the names of those that are not so.
    #[track_caller]
    pub(super) fn check(&self, cases: &[Case]) {
        let broken = |case: &&Case| {
            let (name, case) = case;
            let kept = catch_unwind(AssertUnwindSafe(|| case(self)));
            eprintln!("{}: {name}", if kept.is_ok() { "kept" } else { "BROKEN" });
            kept.is_err()
        };
        let names: Vec<_> = cases.iter().filter(broken).map(|(name, _)| *name).collect();
        assert!(names.is_empty(), "{} of {} promises are broken: {names:#?}", names.len(), cases.len());
        assert_eq!(self.sh("echo well").expect(0).text(), "well\n");
    }

    /// `microagent exec box FLAGS -- ARGV`, to be spawned.
    pub(super) fn command(&self, flags: &[&str], argv: &[&str]) -> Command {
        self.host.command(["exec", NAME].iter().chain(flags).chain(&["--"]).chain(argv))
    }

    /// Runs a command, with flags of `exec`.
    #[track_caller]
    pub(super) fn exec(&self, flags: &[&str], argv: &[&str]) -> Ran {
        finish(self.command(flags, argv).spawn().unwrap())
    }

    /// Runs a shell line.
    #[track_caller]
    pub(super) fn sh(&self, line: &str) -> Ran {
        self.exec(&[], &["/bin/sh", "-c", line])
    }

    /// Runs a command whose standard input is `input`, and ends there. One that takes less of it is no failure.
    #[track_caller]
    pub(super) fn feed(&self, flags: &[&str], argv: &[&str], input: impl Into<Vec<u8>>) -> Ran {
        let mut child = self.command(flags, argv).stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.into());
        std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        finish(child)
    }

    /// `microagent --json ARGUMENTS`.
    #[track_caller]
    pub(super) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.microagent(["--json"].iter().chain(arguments)).expect(0).json()
    }

    /// `microagent ARGUMENTS`.
    #[track_caller]
    pub(super) fn microagent<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        finish(self.host.command(arguments).spawn().unwrap())
    }

    /// The library's way to it.
    pub(super) fn client(&self) -> microagent::Client {
        microagent::Client::open(Some(self.host.state())).unwrap()
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = self.host.microagent(["delete", NAME, "--yes", "--force"]);
    }
}

/// The name of the workspace, for the library.
pub(super) fn name() -> microagent::Name {
    NAME.parse().unwrap()
}

/// Waits until a command has ended, and fails if it does not.
#[track_caller]
pub(super) fn finish(child: Child) -> Ran {
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(Ran::from(child.wait_with_output().unwrap())));
    ended.recv_timeout(LIMIT).unwrap_or_else(|_| {
        crate::lifecycle::machine::kill(id);
        let ran = ended.recv_timeout(LIMIT).unwrap();
        panic!("the command did not end; it said {:?} and {:?}", ran.text(), ran.stderr)
    })
}

/// Waits until a command has ended whose outputs are somebody else's, and returns its exit status.
pub(super) fn status(child: &mut Child) -> Option<i32> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let limit = Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "the command did not end");
    child.wait().unwrap().code()
}
