//! A place to run the command in, with nothing of the caller's environment.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// How long anything the tests wait for may take: it takes milliseconds, and a hundred times that on a host that is busy.
const DEADLINE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// Waits until `source` can be read or accepted from.
#[track_caller]
pub(crate) fn wait_for(source: &impl AsFd) {
    let ready = poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&DEADLINE)).unwrap();
    assert_eq!(ready, 1, "nothing came within {} s", DEADLINE.tv_sec);
}

/// A home directory of its own.
pub(crate) struct Home {
    directory: TempDir,
}

/// What a finished command left.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path().join(".microagent")
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, text: &str) {
        let directory = self.path().join(".config/microagent");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.toml"), text).unwrap();
    }

    /// The command, not yet started, with nobody at the keyboard.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_microagent"));
        command.args(arguments).env_clear().env("HOME", self.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        self.command(arguments).envs(environment.iter().copied()).output().unwrap().into()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            status: output.status.code().expect("the command was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Fails with what the command said unless it ended with `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Ran {
        assert_eq!(self.status, status, "standard output: {}\nstandard error: {}", self.stdout, self.stderr);
        self
    }

    /// The one document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// The `error` object of the one line on standard error.
    #[track_caller]
    pub(crate) fn json_error(&self) -> Value {
        assert_eq!((self.stdout.as_str(), self.stderr.lines().count()), ("", 1), "{}", self.stderr);
        let document: Value = serde_json::from_str(&self.stderr).unwrap();
        document["error"].clone()
    }
}
