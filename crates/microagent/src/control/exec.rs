//! Commands in a workspace that runs.

use super::Connection;
use crate::commands::streams::{Copies, Tee};
use crate::{Client, Error, RunIo};
use microagent_machine::channel::{Input, Output};
use microagent_protocol::supervisor::{Answer, Ask, Ending, ProcessInfo, Start};
use microagent_protocol::{Exit, Recipients, WindowSize};
use microagent_state::Name;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the last output of a command that was killed may take to be taken in.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// Size of the pieces standard input is passed on in.
const STDIN_CHUNK: usize = 64 << 10;

/// A command for [`Client::exec`] and [`Connection::exec`].
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment on top of the workspace's.
    pub env: BTreeMap<String, String>,
    /// Working directory; the workspace's when absent.
    pub workdir: Option<String>,
    /// `USER[:GROUP]`; the workspace's when absent.
    pub user: Option<String>,
    /// Size of the terminal it gets, if it gets one. What it says then comes on standard output alone.
    pub tty: Option<WindowSize>,
    /// Time after which it is killed, with everything in its session.
    pub timeout: Option<Duration>,
    /// Most bytes of each output that the report keeps.
    pub capture_limit: Option<usize>,
}

impl ExecOptions {
    /// Runs `argv` with every default.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> ExecOptions {
        ExecOptions { argv: argv.into_iter().map(Into::into).collect(), ..ExecOptions::default() }
    }

    fn start(&self) -> Start {
        Start {
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.workdir.clone(),
            user: self.user.clone(),
            tty: self.tty,
            timeout_ms: self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ..Start::default()
        }
    }
}

/// How a command ended, and what it said.
#[derive(Clone, Debug, Serialize)]
pub struct ExecReport {
    /// Name of the workspace.
    pub workspace: Name,
    /// Id of the process.
    pub process: String,
    /// How it ended.
    #[serde(flatten)]
    pub status: ExecStatus,
    /// What it wrote to standard output, as far as it was kept; bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// `stdout` holds only the first part.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdout_truncated: bool,
    /// `stderr` holds only the first part.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stderr_truncated: bool,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecStatus {
    /// Its exit status, or 128 plus the signal that killed it.
    pub exit_code: i32,
    /// The signal that killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// It was killed because its time was up.
    pub timed_out: bool,
    /// The guest kernel ran out of memory and killed a process while it ran.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// When it started, by the guest's clock.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub exited_at: jiff::Timestamp,
}

/// Exit status of a command that was killed because its time was up, where the guest could not say anything else: `SIGKILL`'s.
const KILLED: i32 = 128 + 9;

impl ExecStatus {
    fn of(ending: Ending) -> Result<ExecStatus, Error> {
        if let Some(refused) = ending.refused {
            return Err(Error::Supervisor(Box::new(refused)));
        }
        let at = |nanoseconds: u64| jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
        let now = jiff::Timestamp::now();
        Ok(match ending.exit {
            Some(exit) => ExecStatus {
                exit_code: exit.status(),
                signal: exit.signal,
                timed_out: ending.timed_out,
                out_of_memory: exit.out_of_memory,
                started_at: at(exit.started_ns),
                exited_at: at(exit.exited_ns),
            },
            None => ExecStatus {
                exit_code: KILLED,
                signal: None,
                timed_out: true,
                out_of_memory: false,
                started_at: now,
                exited_at: now,
            },
        })
    }
}

/// A process of a workspace that runs.
pub struct Process<'a> {
    connection: &'a Connection,
    id: String,
}

/// The streams of a process, as its client holds them.
pub struct ProcessStreams {
    /// Bytes for its standard input.
    pub stdin: Option<Input>,
    /// Bytes from its standard output.
    pub stdout: Output,
    /// Bytes from its standard error.
    pub stderr: Output,
}

impl Connection {
    /// Starts a command, with standard input if `stdin`. Whether it could be started is the answer of [`Process::wait`].
    pub fn exec(&self, options: &ExecOptions, stdin: bool) -> Result<(Process<'_>, ProcessStreams), Error> {
        let streams =
            ProcessStreams { stdin: stdin.then(|| self.input()), stdout: self.output(), stderr: self.output() };
        let start = Start {
            stdin: streams.stdin.as_ref().map(Input::id),
            stdout: Some(streams.stdout.id()),
            stderr: Some(streams.stderr.id()),
            ..options.start()
        };
        Ok((self.start(start)?, streams))
    }

    /// Starts a command that outlives this connection. Its standard input is empty; the end of what it says is kept for
    /// [`Process::attach`].
    pub fn exec_detached(&self, options: &ExecOptions) -> Result<Process<'_>, Error> {
        self.start(Start { detached: true, ..options.start() })
    }

    fn start(&self, start: Start) -> Result<Process<'_>, Error> {
        match self.ask(&Ask::Exec(Box::new(start)), None)? {
            Answer::Started { process } => Ok(Process { connection: self, id: process }),
            other => Err(Connection::unexpected(&other)),
        }
    }

    /// A process that was started before.
    pub fn process(&self, id: impl Into<String>) -> Process<'_> {
        Process { connection: self, id: id.into() }
    }

    /// The processes that were started through the supervisor and run, or have ended and were not waited for.
    pub fn processes(&self) -> Result<Vec<ProcessInfo>, Error> {
        match self.ask(&Ask::Processes, None)? {
            Answer::Processes { processes } => Ok(processes),
            other => Err(Connection::unexpected(&other)),
        }
    }

    /// Does what is answered by nothing but that it was done.
    pub(crate) fn act(&self, ask: &Ask) -> Result<(), Error> {
        match self.ask(ask, None)? {
            Answer::Done => Ok(()),
            other => Err(Connection::unexpected(&other)),
        }
    }
}

impl Process<'_> {
    /// Its id, by which it can be found again for as long as the workspace runs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until it has ended.
    pub fn wait(&self) -> Result<ExecStatus, Error> {
        match self.connection.ask(&Ask::Await { process: self.id.clone() }, None)? {
            Answer::Ended(ending) if ending.exit.as_ref().is_none_or(Exit::is_valid) => ExecStatus::of(ending),
            other => Err(Connection::unexpected(&other)),
        }
    }

    /// Sends it a signal: its process group, or everything in its session.
    pub fn signal(&self, signal: i32, to: Recipients) -> Result<(), Error> {
        self.connection.act(&Ask::Signal { process: self.id.clone(), signal, to })
    }

    /// Tells its terminal how large it is.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        self.connection.act(&Ask::Resize { process: self.id.clone(), size })
    }

    /// Lets it outlive this connection.
    pub fn detach(&self) -> Result<(), Error> {
        self.connection.act(&Ask::Detach { process: self.id.clone() })
    }

    /// Takes over its outputs, and with `stdin` its standard input too. What it said last comes first.
    pub fn attach(&self, stdin: bool) -> Result<ProcessStreams, Error> {
        let streams = ProcessStreams {
            stdin: stdin.then(|| self.connection.input()),
            stdout: self.connection.output(),
            stderr: self.connection.output(),
        };
        let (stdout, stderr) = (streams.stdout.id(), streams.stderr.id());
        let stdin = streams.stdin.as_ref().map(Input::id);
        self.connection.act(&Ask::Attach { process: self.id.clone(), stdin, stdout, stderr })?;
        Ok(streams)
    }
}

impl Client {
    /// Runs a command in a workspace that runs, and waits for its end. A command that ends, with whatever exit code, is no error.
    pub fn exec(&self, name: &Name, options: &ExecOptions, io: RunIo) -> Result<ExecReport, Error> {
        let connection = self.connect(name)?;
        let (process, streams) = connection.exec(options, io.stdin.is_some())?;
        self.follow(name, &process, streams, io, [options.capture_limit; 2])
    }

    /// Passes the streams of a process on until it has ended. The report keeps at most so many bytes of each output, or as many as is usual.
    pub fn follow(
        &self,
        name: &Name,
        process: &Process<'_>,
        streams: ProcessStreams,
        io: RunIo,
        [stdout_limit, stderr_limit]: [Option<usize>; 2],
    ) -> Result<ExecReport, Error> {
        let copies = Arc::new(Copies::default());
        let (stdout, stderr) = (Tee::new(io.stdout, stdout_limit), Tee::new(io.stderr, stderr_limit));
        stdout.copy(streams.stdout, copies.begin());
        stderr.copy(streams.stderr, copies.begin());
        if let (Some(reader), Some(input)) = (io.stdin, streams.stdin) {
            std::thread::spawn(move || feed(reader, input));
        }
        let status = process.wait()?;
        // All of it was sent before the end was told; the caller's writers may still be taking it in. Those of a command whose time was up
        // have no more time than it had.
        let limit = status.timed_out.then(|| Instant::now() + LAST_OUTPUT);
        let _ = copies.wait(limit);
        let (stdout, stderr) = (stdout.take_captured(), stderr.take_captured());
        Ok(ExecReport {
            workspace: name.clone(),
            process: process.id.clone(),
            status,
            stdout: stdout.text,
            stderr: stderr.text,
            stdout_truncated: stdout.truncated,
            stderr_truncated: stderr.truncated,
        })
    }
}

/// Passes standard input on until it ends or nobody reads it any more.
pub(crate) fn feed(mut reader: Box<dyn Read + Send>, mut input: Input) {
    let mut buffer = vec![0; STDIN_CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if input.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        }
    }
}
