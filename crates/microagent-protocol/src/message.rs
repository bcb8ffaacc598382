//! Requests and replies: the JSON inside [`Kind::Call`](crate::Kind::Call) and [`Kind::Reply`](crate::Kind::Reply)
//! frames.

use serde::{Deserialize, Serialize};

/// The guest's first word: it is up, and nothing is attached to it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the agent.
    pub protocol: u32,
    /// Version of the agent.
    pub agent: String,
    /// `uname -r` of the guest.
    pub kernel: String,
    /// Milliseconds from the start of the guest kernel to this message, by the guest's own clock.
    pub uptime_ms: u64,
}

/// What the host asks of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Read the guest's clock, at any time. Answered by [`Reply::Time`].
    Time,
    /// Become the machine of one workspace. Once, before any command, unless it was let go of with [`Request::Release`]. Answered by
    /// [`Reply::Booted`].
    Boot(Boot),
    /// Run a command. Answered by [`Reply::Exited`] when it has ended and its output has been sent.
    Exec(Exec),
    /// Send a signal to the process group of a running command. Answered by [`Reply::Done`].
    Signal {
        /// Id of the [`Request::Exec`] call that runs the command.
        process: u32,
        /// Linux signal number.
        signal: i32,
    },
    /// Flush everything written to the disks. Answered by [`Reply::Done`].
    Sync,
    /// Kill what still runs and unmount the disks cleanly. Answered by [`Reply::Done`] when the host may end the machine.
    Shutdown,
    /// The same, and let go of the disks: the machine is nobody's again and waits for another boot. Answered by [`Reply::Done`].
    Release,
}

/// Everything particular to a run that a booted, waiting guest lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The image's read-only base.
    pub base: Disk,
    /// The workspace's own disk; holds the directories `upper` and `work` of the overlay, made when absent.
    pub workspace: Disk,
    /// Host name, also the first line of `/etc/hosts`.
    pub hostname: String,
    /// 32 hexadecimal digits: `/etc/machine-id` of this machine and no other.
    pub machine_id: String,
    /// The host's clock at the zero of the guest's monotonic clock, in nanoseconds since the Unix epoch. It holds however long the
    /// request takes, and for a guest that was frozen in between.
    pub epoch_ns: u64,
    /// Host entropy for the guest kernel's random number generator; at least 32 bytes.
    pub entropy: Vec<u8>,
}

/// A block device and what is on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The virtio serial number by which the guest finds the device; at most 20 bytes.
    pub serial: String,
    /// Type of the file system, as `mount(2)` takes it.
    pub filesystem: String,
}

/// A command to run in the workspace's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program, looked up in the command's own `PATH` unless it holds a slash, and its arguments.
    pub argv: Vec<String>,
    /// The whole environment, as `KEY=VALUE`. `HOME`, where absent, is set from the user's entry in `/etc/passwd`.
    pub env: Vec<String>,
    /// Working directory; made when absent.
    pub cwd: String,
    /// `USER[:GROUP]`, by name or number, as an OCI image configuration has it. Empty means root.
    pub user: String,
    /// Stream the host sends standard input on. Without one, standard input is `/dev/null`.
    pub stdin: Option<u32>,
    /// Stream the guest sends standard output on.
    pub stdout: u32,
    /// Stream the guest sends standard error on.
    pub stderr: u32,
    /// How long after the command's own end to wait for children of it that still hold its output open, in milliseconds.
    pub drain_ms: u32,
}

/// What the guest answers when it did as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The machine is the workspace's now.
    Booted {
        /// Milliseconds from the request to this reply, by the guest's own clock.
        took_ms: u64,
    },
    /// What the guest's clock says.
    Time {
        /// Its monotonic clock, in nanoseconds.
        monotonic_ns: u64,
    },
    /// The command ran and ended.
    Exited(Exit),
    /// It was done.
    Done,
    /// It was not done.
    Refused(Refusal),
}

/// How a command ended. Exactly one of `code` and `signal` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// Its exit status.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// When it started: nanoseconds since the Unix epoch, by the guest's clock.
    pub started_ns: u64,
    /// When it ended.
    pub exited_ns: u64,
    /// The guest kernel ran out of memory and killed a process while the command ran.
    pub out_of_memory: bool,
}

impl Exit {
    /// Whether it says what an end can be: an exit code of a byte, or a signal that exists. Checked before anything is made of it.
    pub fn is_valid(&self) -> bool {
        match (self.code, self.signal) {
            (Some(code), None) => (0..=255).contains(&code),
            (None, Some(signal)) => (1..=64).contains(&signal),
            _ => false,
        }
    }

    /// The status a shell would report: the exit code, or 128 plus the signal.
    pub fn status(&self) -> i32 {
        self.code.unwrap_or_else(|| 128 + self.signal.unwrap_or(0))
    }
}

/// Why the guest did not do it. A command that is refused never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: one line, names what was wrong.
    pub message: String,
}

/// The reasons for a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request cannot be read, or asks for something malformed.
    BadRequest,
    /// The agent does not know the verb.
    UnknownVerb,
    /// It needs a booted machine, or one that has not been booted.
    WrongState,
    /// No block device has the serial named.
    DiskMissing,
    /// A file system did not mount.
    MountFailed,
    /// The program does not exist.
    CommandNotFound,
    /// The program exists and cannot be executed.
    CommandNotExecutable,
    /// The user or group does not exist in the image.
    UserUnknown,
    /// The working directory cannot be made or entered.
    WorkingDirectory,
    /// No running command has that id.
    NoSuchProcess,
    /// The guest kernel refused: out of memory, out of processes.
    System,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_verb_or_field_does_not_parse() {
        assert!(serde_json::from_str::<Request>(r#"{"verb":"dance"}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"verb":"signal","process":1,"signal":2,"extra":3}"#).is_err());
    }

    #[test]
    fn a_killed_command_has_the_status_a_shell_reports() {
        let exit = Exit { code: None, signal: Some(9), started_ns: 0, exited_ns: 0, out_of_memory: false };
        assert_eq!(exit.status(), 137);
    }
}
