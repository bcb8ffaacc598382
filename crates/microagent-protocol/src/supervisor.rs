//! What clients and the supervisor of a running workspace say to each other.
//!
//! The supervisor listens on a Unix socket in the workspace's directory. It speaks in the frames of this crate, as the guest agent does:
//! its first word is a [`Greeting`] in a [`Kind::Hello`](crate::Kind::Hello) frame; then the client calls, and hands out the ids of calls
//! and streams. Any number of clients may be connected, and each may have any number of calls under way.
//!
//! `docs/supervisor-protocol.md` describes all of it for programs in other languages.

use crate::{Exit, FaultReport, FileStat, Owner, Recipients, Stats, WindowSize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this conversation. A client that finds another one in the [`Greeting`] does not know what to expect.
pub const SUPERVISOR_PROTOCOL_VERSION: u32 = 1;

/// The supervisor's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`SUPERVISOR_PROTOCOL_VERSION`] of the supervisor.
    pub protocol: u32,
    /// Version of the supervisor.
    pub supervisor: String,
    /// Name of the workspace.
    pub workspace: String,
    /// The machine: new for every start.
    pub session: String,
}

/// Why a client asks for something that ends up in the workspace's events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// Who asks.
    #[serde(default)]
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// What joins the event to the client's own records.
    #[serde(default)]
    pub correlation_id: Option<String>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// What runs. Answered by [`Answer::Status`].
    Status,
    /// Run a command. Answered by [`Answer::Started`] as soon as it is on its way, and whether it could be started by [`Ask::Await`].
    Exec(Box<Start>),
    /// Wait for the end of a process. Answered by [`Answer::Ended`].
    Await {
        /// Its id.
        process: String,
    },
    /// Take over the streams of a process. What it has said last comes first. Answered by [`Answer::Done`].
    Attach {
        /// Its id.
        process: String,
        /// Stream with more of its standard input, if that has not ended. Without one it waits for whoever comes next.
        #[serde(default)]
        stdin: Option<u32>,
        /// Stream for its standard output.
        stdout: u32,
        /// Stream for its standard error.
        stderr: u32,
    },
    /// Let a process outlive this connection. Answered by [`Answer::Done`].
    Detach {
        /// Its id.
        process: String,
    },
    /// Send a signal to a process. Answered by [`Answer::Done`].
    Signal {
        /// Its id.
        process: String,
        /// Linux signal number.
        signal: i32,
        /// Who gets it.
        #[serde(default)]
        to: Recipients,
    },
    /// Tell the terminal of a process how large it is. Answered by [`Answer::Done`].
    Resize {
        /// Its id.
        process: String,
        /// The new size.
        size: WindowSize,
    },
    /// The processes that were started through the supervisor and run, or have ended and were not waited for. Answered by
    /// [`Answer::Processes`].
    Processes,
    /// Look at a file. Answered by [`Answer::Stat`].
    Stat {
        /// Absolute path in the workspace.
        path: String,
        /// Whether a symbolic link at its end is followed.
        #[serde(default)]
        follow: bool,
    },
    /// Send a file or a tree as a tar stream. Answered by [`Answer::Done`] when all of it was sent.
    Pack {
        /// Absolute path in the workspace.
        path: String,
        /// What it is called in the archive; `.` for the contents of a directory alone.
        name: String,
        /// Whether a symbolic link at its end is followed.
        #[serde(default)]
        follow: bool,
        /// Stream for the archive.
        output: u32,
    },
    /// Unpack a tar stream. Answered by [`Answer::Done`].
    Unpack {
        /// Absolute path of a directory in the workspace, which must exist.
        directory: String,
        /// Stream with the archive.
        input: u32,
        /// Whose the files become.
        owner: Owner,
    },
    /// Send what differs from the image, one [`Change`](crate::Change) a line. Answered by [`Answer::Done`].
    Changes {
        /// Stream for the lines.
        output: u32,
    },
    /// Send what differs from the image as a layer of an OCI image. Answered by [`Answer::Done`].
    PackLayer {
        /// Stream for the archive.
        output: u32,
    },
    /// Flush everything written to the disks. Answered by [`Answer::Done`].
    Sync,
    /// What guest and engine use. Answered by [`Answer::Stats`].
    Stats,
    /// Ask a server in the workspace for a page, by HTTP/1.1. Answered by [`Answer::Http`].
    HttpGet {
        /// The server and the page.
        page: HttpGet,
        /// Milliseconds the answer may take.
        timeout_ms: u64,
    },
    /// End the machine cleanly. Answered by [`Answer::Done`] when the workspace is halted.
    Halt(Because),
    /// End the machine at once. Answered by [`Answer::Done`] when it is gone.
    Kill(Because),
    /// Stop the virtual processors. Answered by [`Answer::Done`].
    Pause(Because),
    /// Have them go on. Answered by [`Answer::Done`].
    Resume(Because),
    /// Stop the processors, and end the machine for good. Answered by [`Answer::Done`].
    Quarantine(Because),
    /// Write down what it is now, memory and disks, and have it go on. Answered by [`Answer::Taken`].
    Snapshot {
        /// What it is to be called; made of the time when absent.
        #[serde(default)]
        tag: Option<String>,
        /// What is to be known of it.
        #[serde(default)]
        comment: Option<String>,
        /// Keep everything as it is, secrets included, to be looked at and never to be started; and leave the processors standing.
        #[serde(default)]
        forensic: bool,
        /// Who asks, and why.
        #[serde(default)]
        because: Because,
    },
    /// Change what can be changed while the machine runs. Answered by [`Answer::Done`].
    Amend {
        /// What is different from now on.
        amendment: Box<Amendment>,
        /// Why.
        #[serde(default)]
        because: Because,
    },
}

/// What can be changed of a workspace while it runs. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amendment {
    /// Restart policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    /// How it is found out whether the workspace is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Guest paths that are artifacts, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<BTreeMap<String, String>>,
}

/// What tells whether a workspace is well, a command or a server in it, and how often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The command: well when it exits with 0. Empty where a server is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// The server: well when it answers with a status from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// Seconds between two probes.
    pub interval_seconds: u64,
    /// Seconds a probe may take.
    pub timeout_seconds: u64,
    /// Failures in a row that make a workspace unwell.
    pub retries: u32,
    /// Seconds after a start in which failures do not count.
    pub start_period_seconds: u64,
}

/// A page of a server in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGet {
    /// Port the server listens on, on the loopback interface of the guest or its address.
    pub port: u16,
    /// What is asked for, from the slash on.
    pub path: String,
}

impl HttpGet {
    /// Longest path: what servers take at least (RFC 9110, 4.1).
    const MAX_PATH: usize = 8000;

    /// Whether it can be asked for: whatever else were in the path would be another part of the request.
    pub fn is_valid(&self) -> bool {
        let path = self.path.as_bytes();
        self.port != 0
            && path.first() == Some(&b'/')
            && path.len() <= HttpGet::MAX_PATH
            && path.iter().all(u8::is_ascii_graphic)
    }
}

/// A command for [`Ask::Exec`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment on top of the workspace's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory; the workspace's when absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// `USER[:GROUP]`; the workspace's when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Size of the terminal it gets, if it gets one. What it says then comes on standard output alone.
    #[serde(default)]
    pub tty: Option<WindowSize>,
    /// Stream with its standard input. Without one it has none.
    #[serde(default)]
    pub stdin: Option<u32>,
    /// Stream for its standard output. Without one the end of what it says is kept for [`Ask::Attach`].
    #[serde(default)]
    pub stdout: Option<u32>,
    /// Stream for its standard error.
    #[serde(default)]
    pub stderr: Option<u32>,
    /// Milliseconds after which it is killed, with everything in its session.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Whether it outlives this connection.
    #[serde(default)]
    pub detached: bool,
}

/// What the supervisor answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    Done,
    /// It was not done.
    Failed(FaultReport),
    /// What runs.
    Status(Running),
    /// The command is on its way.
    Started {
        /// The id of its process.
        process: String,
    },
    /// The process is over.
    Ended(Ending),
    /// What was started through the supervisor.
    Processes {
        /// In the order of their starts.
        processes: Vec<ProcessInfo>,
    },
    /// What is known of a file.
    Stat(FileStat),
    /// What guest and engine use.
    Stats(Usage),
    /// A server in the workspace answered.
    Http {
        /// With this status; the rest of its answer is not waited for.
        status: u16,
    },
    /// A snapshot is there.
    Taken(Taken),
}

/// A snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// What it is called.
    pub tag: String,
    /// For how long the workspace stood still, in microseconds.
    pub pause_us: u64,
    /// What is less than it could be about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Phase of the workspace.
    pub state: String,
    /// Process id of the supervisor, in its own name space.
    pub supervisor_pid: u32,
    /// Process id of the engine.
    pub engine_pid: u32,
    /// How the machine came up.
    pub start: String,
    /// Milliseconds from the start of the supervisor until the guest answered.
    pub ready_ms: u64,
    /// Ports of the host that lead into it, as `ADDRESS:PORT:GUESTPORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<String>,
}

/// How a process ended. Exactly one of `exit` and `refused` is there, unless the guest did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// It ran, and ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// It never ran, and this is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<FaultReport>,
    /// It was killed because its time was up.
    #[serde(default)]
    pub timed_out: bool,
}

/// A process that was started through the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its id.
    pub process: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// When it was started: nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it outlives the connection that started it.
    pub detached: bool,
    /// How it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// What guest and engine use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// By the guest's own account.
    pub guest: Stats,
    /// Process id of the engine.
    pub pid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_refused_and_an_absent_one_is_not_needed() {
        let parsed: Ask = serde_json::from_str(r#"{"verb":"exec","argv":["true"]}"#).unwrap();
        assert_eq!(parsed, Ask::Exec(Box::new(Start { argv: vec!["true".to_owned()], ..Start::default() })));
        assert!(serde_json::from_str::<Ask>(r#"{"verb":"exec","argv":["true"],"detach":true}"#).is_err());
        assert!(serde_json::from_str::<Ask>(r#"{"verb":"dance"}"#).is_err());
    }

    #[test]
    fn a_page_is_one_path_of_one_request() {
        let is_valid = |port, path: &str| HttpGet { port, path: path.to_owned() }.is_valid();
        assert!(is_valid(80, "/") && is_valid(65535, "/ready?full=1&name=%20"));
        for path in ["", "ready", "/a b", "/a HTTP/1.1\r\nX: y", "/\u{e4}", "/\0"] {
            assert!(!is_valid(80, path), "{path:?}");
        }
        assert!(!is_valid(0, "/") && !is_valid(80, &"/a".repeat(5000)));
    }
}
