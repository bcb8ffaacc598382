//! Requests and replies: the JSON inside [`Kind::Call`](crate::Kind::Call) and [`Kind::Reply`](crate::Kind::Reply)
//! frames.

use crate::Wake;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

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
    /// Send a signal to a running command. A call that works on files is given up by any signal: `SIGKILL` at once, any other as soon as
    /// it has removed what it left half done. Answered by [`Reply::Done`].
    Signal {
        /// Id of the [`Request::Exec`] call that runs the command, or of the call that works on files.
        process: u32,
        /// Linux signal number.
        signal: i32,
        /// Who gets it.
        #[serde(default)]
        to: Recipients,
    },
    /// Tell a command's terminal that its window has another size now. Answered by [`Reply::Done`].
    Resize {
        /// Id of the [`Request::Exec`] call that runs the command.
        process: u32,
        /// The new size.
        size: WindowSize,
    },
    /// Look at one file of the workspace. Answered by [`Reply::Stat`].
    Stat {
        /// Absolute path.
        path: String,
        /// Look at what a symbolic link points to rather than at the link.
        follow: bool,
    },
    /// Send a file or a tree of the workspace as a pax tar stream. Symbolic links in a tree are sent as links, sockets and the kernel's own
    /// file systems are left out. Answered by [`Reply::Done`] when all is sent.
    Pack {
        /// Absolute path.
        path: String,
        /// What the archive calls it; names of what is in a directory come after it and a slash. `.` for a directory: what is in it alone.
        name: String,
        /// Send what a symbolic link points to rather than the link.
        follow: bool,
        /// Stream the guest sends the archive on.
        output: u32,
    },
    /// Unpack a tar stream below a directory of the workspace. Nothing outside of it is touched, whatever the archive holds. Files appear
    /// whole or not at all and replace files, directories are merged; what came before an entry that is refused stays. Answered by
    /// [`Reply::Done`].
    Unpack {
        /// Absolute path of a directory that exists.
        directory: String,
        /// Stream the host sends the archive on.
        input: u32,
        /// Whose the files will be.
        owner: Owner,
    },
    /// Send what differs between the workspace and its image: a line of JSON, a [`Change`], for each path, in the order of the paths.
    /// Answered by [`Reply::Done`].
    Changes {
        /// Stream the guest sends the lines on.
        output: u32,
    },
    /// Send the same as a layer: an OCI tar archive, whiteouts included, that makes the workspace of its image. Two of equal workspaces are
    /// equal. Answered by [`Reply::Done`].
    PackLayer {
        /// Stream the guest sends the archive on.
        output: u32,
    },
    /// Connect to a TCP port of the workspace, on its loopback interface or its own address. Answered by [`Reply::Done`] when the connection
    /// is there; its two directions are the streams then, and end as it does.
    Connect {
        /// The port.
        port: u16,
        /// Stream of what the host sends.
        input: u32,
        /// Stream of what the guest sends.
        output: u32,
    },
    /// Wait for a process of the workspace to connect to one of [`Boot::sockets`]. Answered by [`Reply::Done`] when one has; the two
    /// directions of that connection are the streams then. Connections queue until they are asked for.
    Accept {
        /// Name of the socket.
        socket: String,
        /// Stream of what the host sends.
        input: u32,
        /// Stream of what the guest sends.
        output: u32,
    },
    /// Put a secret into its file below [`SECRETS`], of which its owner alone can read it. Answered by [`Reply::Done`].
    Secret {
        /// Name of the file.
        name: String,
        /// Whose it is: `USER[:GROUP]` as in [`Exec::user`].
        user: String,
        /// Stream the host sends the value on.
        input: u32,
    },
    /// Make the file system of the workspace's disk as large as the disk is. Answered by [`Reply::Grown`].
    Grow,
    /// Say what the machine is busy with. Answered by [`Reply::Stats`].
    Stats,
    /// Flush everything written to the disks. Answered by [`Reply::Done`].
    Sync,
    /// Kill what still runs and unmount the disks cleanly. Answered by [`Reply::Done`] when the host may end the machine.
    Shutdown,
    /// The same, and let go of the disks: the machine is nobody's again and waits for another boot. Answered by [`Reply::Done`].
    Release,
    /// Stand still: send nothing but the answers to what is asked, until [`Request::Proceed`] or [`Request::Wake`]. Commands run on, and
    /// what they write waits. Nothing but those two and [`Request::Time`] is done meanwhile, and the frames of streams are dropped: the host
    /// does not send any. Only a machine with a workspace can. Answered by [`Reply::Quiet`], after everything that was on its way.
    Quiesce {
        /// First overwrite and remove every file in [`SECRETS`], of whatever name. If that cannot be done, or a secret is on its way, the
        /// machine does not stand still.
        purge: bool,
    },
    /// Go on. Answered by [`Reply::Done`], before everything that waited.
    Proceed {
        /// See [`Boot::epoch_ns`].
        epoch_ns: u64,
    },
    /// Go on as somebody else. Answered by [`Reply::Done`]. One that is refused leaves the machine standing still.
    Wake(Wake),
}

/// Everything particular to a run that a booted, waiting guest lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The image's read-only base.
    pub base: Disk,
    /// The workspace's own disk; holds the directories `upper` and `work` of the overlay, made when absent.
    pub workspace: Disk,
    /// More disks, mounted in this order.
    pub mounts: Vec<Mount>,
    /// Host name, also the first line of `/etc/hosts`.
    pub hostname: String,
    /// 32 hexadecimal digits: `/etc/machine-id` of this machine and no other.
    pub machine_id: String,
    /// The host's clock at the zero of the guest's monotonic clock, in nanoseconds since the Unix epoch. It holds however long the
    /// request takes, and for a guest that was frozen in between.
    pub epoch_ns: u64,
    /// Host entropy for the guest kernel's random number generator; at least 32 bytes.
    pub entropy: Vec<u8>,
    /// How the network interface is used. Without it, it is left down.
    #[serde(default)]
    pub network: Option<Network>,
    /// Certificates in PEM that programs of the workspace are to trust, beyond those the image does. With any, the bundle of all of them is
    /// [`TRUST`].
    #[serde(default)]
    pub trust: Vec<String>,
    /// Certificates in PEM that are trusted besides where the image has no bundle of its own: programs that are told of ours look nowhere else.
    #[serde(default)]
    pub roots: String,
    /// Where the environment of the workspace says that Java is, which has a store of its own: `JAVA_HOME`.
    #[serde(default)]
    pub java_home: Option<String>,
    /// Whether [`Request::Secret`] may follow.
    #[serde(default)]
    pub secrets: bool,
    /// Names of Unix sockets below [`PRIVATE`] that lead to the host: see [`Request::Accept`].
    #[serde(default)]
    pub sockets: Vec<String>,
}

/// Directory of the files that the agent gives a workspace, in memory.
pub const PRIVATE: &str = "/run/microagent";

/// Bundle of the certificates that are trusted in a workspace.
pub const TRUST: &str = "/run/microagent/ca-certificates.crt";

/// The socket of [`Boot::sockets`] over which secrets are handed out on demand: what the host sends there leaves nothing in the agent.
pub const ON_DEMAND: &str = "secrets";

/// Directory of secrets, in memory.
pub const SECRETS: &str = "/run/secrets";

/// How the network interface is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// How many of its bits are the network's.
    pub prefix: u8,
    /// The way to everything beyond that.
    pub gateway: Ipv4Addr,
    /// Who knows the addresses of names.
    pub resolver: Ipv4Addr,
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

/// A disk and its place in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The disk. It is flushed and let go of with the workspace's own.
    pub disk: Disk,
    /// Absolute path of the directory that shows it; made when absent. Symbolic links in it are followed within the workspace.
    pub target: String,
    /// It is mounted so that nothing is written to it; what a journal says is still to be done is not done. Root in the workspace could mount
    /// it otherwise, so the host attaches such a disk read-only.
    pub read_only: bool,
}

/// The size of a terminal's window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipients {
    /// The command's process group, as from a terminal.
    #[default]
    Group,
    /// Every process of the command's session, also when the command itself has ended and its children hold its output open: all it started
    /// that did not leave by `setsid(2)`.
    Session,
}

/// Whose unpacked files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Whoever the archive says.
    Keep,
    /// This user's and group's.
    As {
        /// User number.
        uid: u32,
        /// Group number.
        gid: u32,
    },
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
    /// A terminal of this size is standard input, output and error of the command, and controls its session. What is written to it comes on
    /// the stream of standard output. `TERM`, where absent, is `xterm`.
    pub tty: Option<WindowSize>,
    /// Stream the host sends standard input on. Without one, standard input is `/dev/null`, or a terminal nobody types at. Its end is
    /// the end of file; at a terminal, only where the terminal deals in lines.
    pub stdin: Option<u32>,
    /// Stream the guest sends standard output on.
    pub stdout: u32,
    /// Stream the guest sends standard error on. Ends at once where there is a terminal.
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
    /// It stands still.
    Quiet {
        /// Its monotonic clock, in nanoseconds.
        monotonic_ns: u64,
    },
    /// The command ran and ended.
    Exited(Exit),
    /// What the file is.
    Stat(FileStat),
    /// How large the workspace's disk is now.
    Grown(Capacity),
    /// What the machine is busy with.
    Stats(Stats),
    /// It was done.
    Done,
    /// It was not done.
    Refused(Refusal),
}

/// What kind of file a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a FIFO or a socket.
    Other,
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a regular file, or of a symbolic link's target.
    pub size: u64,
    /// Permission bits, with those of setuid, setgid and sticky.
    pub mode: u32,
    /// Number of its owner.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
    /// When it was modified last: nanoseconds since the Unix epoch, by the guest's clock.
    pub modified_ns: i64,
}

/// One line of [`Request::Changes`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Absolute path. Bytes that are not UTF-8 are replaced; the archive of [`Request::PackLayer`] has them.
    pub path: String,
    /// What happened to it.
    pub change: ChangeKind,
    /// What it is; for a deleted file, what it was.
    pub kind: FileKind,
    /// Bytes of a regular file; 0 if it was deleted.
    pub size: u64,
}

/// How a path of a workspace differs from its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The image has no such path.
    Added,
    /// The image has another file there, or the same with other contents or attributes.
    Modified,
    /// The workspace has no such path. What was below it is not listed.
    Deleted,
}

/// The size of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Bytes for files and their metadata.
    pub size_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
}

/// What the machine is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Bytes of memory the guest kernel manages.
    pub memory_total: u64,
    /// Bytes of it that a command could have.
    pub memory_available: u64,
    /// Nanoseconds that processors were not idle since the guest kernel started, of all processors together.
    pub cpu_busy_ns: u64,
    /// Nanoseconds since the guest kernel started.
    pub uptime_ns: u64,
    /// Processes of the workspace.
    pub processes: u64,
    /// The workspace's disk.
    pub disk: Capacity,
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
    /// It needs a booted machine, one that has not been booted, one that stands still, or one that does not.
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
    /// The file or directory does not exist.
    FileMissing,
    /// The file system does not let the file be read, written or made.
    FileAccess,
    /// Something of another kind is in the place of a file or directory.
    FileConflict,
    /// What was sent is no whole, well-formed tar archive, or asks for something that is never done.
    BadArchive,
    /// The disk is full.
    DiskFull,
    /// It was given up because a signal said so.
    Cancelled,
    /// Nobody listens there.
    ConnectionRefused,
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
