//! A command whose streams are ours, until it ends or we let go of it.

use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Format, Text};
use crate::signals::Forwarding;
use crate::terminal::{self, Keyboard, RawMode};
use crate::verbs::run::streams::Outputs;
use microagent::{Client, Connection, ExecOptions, ExecReport, Name, Process, ProcessStreams, RunIo};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `timeout(1)` ends with.
const TIMED_OUT: u8 = 124;

/// Why the verb ends while the process goes on.
const LEFT: u8 = 0;

/// How we stay with a command.
pub(super) struct Attached<'a> {
    pub(super) context: &'a Context,
    pub(super) client: &'a Client,
    pub(super) name: &'a Name,
    /// It has a terminal, and so ours is handed over to it.
    pub(super) tty: bool,
    /// Most bytes of each output that JSON output holds.
    pub(super) limits: [Option<usize>; 2],
}

impl Attached<'_> {
    /// Starts the command, and stays with it.
    pub(super) fn run(&self, options: &ExecOptions, stdin: Option<Box<dyn Read + Send>>) -> Result<u8, Error> {
        let connection = Arc::new(self.client.connect(self.name)?);
        let (process, streams) = connection.exec(options, stdin.is_some())?;
        self.stay(&connection, &process, streams, stdin)
    }

    /// Stays with a process that was left running.
    pub(super) fn resume(&self, id: &str, stdin: Option<Box<dyn Read + Send>>) -> Result<u8, Error> {
        let connection = Arc::new(self.client.connect(self.name)?);
        let process = connection.process(id);
        let streams = process.attach(stdin.is_some())?;
        if let (true, Some(size)) = (self.tty, terminal::size()) {
            // One that has no terminal, or has ended, has no use for its size.
            let _ = process.resize(size);
        }
        self.stay(&connection, &process, streams, stdin)
    }

    fn stay(
        &self,
        connection: &Arc<Connection>,
        process: &Process<'_>,
        streams: ProcessStreams,
        stdin: Option<Box<dyn Read + Send>>,
    ) -> Result<u8, Error> {
        let raw = if self.tty { RawMode::enter()? } else { None };
        let forwarding = Forwarding::start(connection, process.id(), raw.is_some())?;
        let left = Arc::new(AtomicBool::new(false));
        let stdin = match (stdin, &raw) {
            (Some(keys), Some(_)) => {
                let (connection, id, left) = (Arc::clone(connection), process.id().to_owned(), Arc::clone(&left));
                let leave = move || {
                    left.store(true, Ordering::SeqCst);
                    // Either way nothing of it is heard here any more.
                    let _ = connection.process(id.as_str()).detach();
                    connection.close();
                };
                Some(Box::new(Keyboard::new(keys, leave)) as Box<dyn Read + Send>)
            }
            (stdin, _) => stdin,
        };
        let outputs = Outputs::new();
        let mut io = RunIo { stdin, ..RunIo::default() };
        if self.context.format() == Format::Text {
            io.stdout = Some(outputs.stdout()?);
            io.stderr = Some(outputs.stderr()?);
        }
        let limits = match self.context.format() {
            // What is streamed need not be kept.
            Format::Text => [Some(0); 2],
            _ => self.limits,
        };
        let outcome = self.client.follow(self.name, process, streams, io, limits);
        drop(raw);
        drop(forwarding);
        if left.load(Ordering::SeqCst) {
            outputs.end_line();
            output::note(&format!(
                "left running; `microagent exec {} -it --attach {}` comes back to it",
                self.name,
                process.id()
            ));
            return Ok(LEFT);
        }
        let report = outcome?;
        let status = exit_status(&report);
        if self.context.format() == Format::Text {
            if report.status.timed_out {
                outputs.end_line();
                output::note("the command was killed: its time was up");
            }
            return Ok(status);
        }
        self.context.show(&report)?;
        Ok(super::DONE)
    }
}

/// The command's exit code as far as a process can pass it on.
fn exit_status(report: &ExecReport) -> u8 {
    if report.status.timed_out {
        return TIMED_OUT;
    }
    u8::try_from(report.status.exit_code & 0xff).unwrap_or(u8::MAX)
}

impl Text for ExecReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{}", self.stdout)
    }
}
