//! QEMU's monitor: commands in, answers and events out, one JSON object a line (`docs/interop/qmp-spec.txt` in QEMU).
//!
//! The socket is inherited, so commands can be written before QEMU is there to read them: it takes them in order once it is up,
//! and nobody waits for its greeting. What is read is the engine's, so lines are bounded.

use crate::Error;
use crate::engine::DiskMode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Longest line taken: no answer to our commands and no event comes near.
const MAX_LINE: usize = 64 << 10;

/// Name under which QEMU keeps the descriptor that the state of a machine is written to.
const STATE: &str = "state";

/// The number under which QEMU keeps the file that devices are written to: beyond those of disks.
const STATE_SET: u32 = 1000;

/// The conversation with one QEMU.
#[derive(Debug)]
pub(in crate::engine) struct Monitor {
    stream: UnixStream,
    /// What has arrived and is not a whole line yet, or not looked at.
    received: Vec<u8>,
    /// Commands that were sent and not answered, in order.
    unanswered: VecDeque<&'static str>,
    greeted: bool,
    /// QEMU still has the file that devices were written to.
    has_state_set: bool,
}

#[derive(Serialize)]
struct Command {
    execute: &'static str,
    arguments: Value,
}

/// A line of any kind: what it is shows in which field it has.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<Failure>,
    event: Option<String>,
    data: Option<Value>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    desc: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Timestamp {
    seconds: u64,
    microseconds: u64,
}

/// Something that happened in QEMU.
#[derive(Debug)]
struct Event {
    name: String,
    data: Value,
    /// By the host's clock, in nanoseconds since the Unix epoch.
    at_ns: u64,
}

impl Monitor {
    /// The monitor at the other end of `stream`.
    pub(in crate::engine) fn new(stream: UnixStream) -> Monitor {
        Monitor { stream, received: Vec::new(), unanswered: VecDeque::new(), greeted: false, has_state_set: false }
    }

    /// Takes note that QEMU is past its greeting and listens to commands.
    pub(in crate::engine) fn listen(&mut self) {
        self.greeted = true;
    }

    /// Waits for the greeting: QEMU has read its command line and is about to run the machine.
    pub(in crate::engine) fn greeting(&mut self, deadline: Instant) -> Result<(), Error> {
        while !self.greeted {
            self.next_event(deadline)?;
        }
        Ok(())
    }

    /// Makes the monitor listen to commands.
    pub(super) fn negotiate(&mut self) -> Result<(), Error> {
        self.send("qmp_capabilities", json!({}))
    }

    /// Makes the monitor listen to commands, and what is written of a machine leave out RAM that is in a shared file.
    pub(super) fn prepare(&mut self) -> Result<(), Error> {
        let enabled = |name| json!({"capability": name, "state": true});
        self.negotiate()?;
        let capabilities = [enabled("x-ignore-shared"), enabled("events")];
        self.send("migrate-set-capabilities", json!({"capabilities": capabilities}))
    }

    /// Has the machine written to `state`, all but its RAM. It is not told to stop first: one saved while it runs goes on by itself when
    /// it is loaded.
    pub(in crate::engine) fn save(&mut self, state: impl AsFd, deadline: Instant) -> Result<(), Error> {
        self.prepare()?;
        self.send_with("getfd", json!({"fdname": STATE}), Some(state.as_fd()))?;
        self.send("migrate", json!({"uri": format!("fd:{STATE}")}))?;
        loop {
            let Some(event) = self.next_event(deadline)? else { continue };
            match (event.name.as_str(), event.data["status"].as_str()) {
                ("MIGRATION", Some("completed")) => return Ok(()),
                ("MIGRATION", Some("failed" | "cancelled")) => return Err(failed("migrate", "it failed")),
                _ => {}
            }
        }
    }

    /// Has everything of a machine that stands still written to `state` but its RAM. The file is let go of when it goes on.
    ///
    /// The command is there for Xen, which sees to the RAM itself, as we do. Its file is one that was handed over: a machine under a filter
    /// opens none.
    pub(in crate::engine) fn save_devices(&mut self, state: impl AsFd, deadline: Instant) -> Result<(), Error> {
        self.send_with("add-fd", json!({"fdset-id": STATE_SET}), Some(state.as_fd()))?;
        // It is not told to become the source of a migration, which gives up its disks.
        let arguments = json!({"filename": format!("/dev/fdset/{STATE_SET}"), "live": false});
        self.send("xen-save-devices-state", arguments)?;
        self.has_state_set = true;
        self.settle(deadline)
    }

    /// Stops the machine.
    pub(in crate::engine) fn stop(&mut self, deadline: Instant) -> Result<(), Error> {
        self.send("stop", json!({}))?;
        self.settle(deadline)
    }

    /// Has a machine go on that was stopped.
    pub(in crate::engine) fn go_on(&mut self) -> Result<(), Error> {
        self.send("cont", json!({}))?;
        // While a machine stands still, QEMU keeps what it is told to give up.
        if std::mem::take(&mut self.has_state_set) {
            self.send("remove-fd", json!({"fdset-id": STATE_SET}))?;
        }
        Ok(())
    }

    /// Puts an open image in the place of disk `index`, whatever was there. The guest must not have a driver bound to it.
    pub(in crate::engine) fn attach(&mut self, index: usize, mode: DiskMode, image: impl AsFd) -> Result<(), Error> {
        let file = format!("file{index}");
        self.send_with("add-fd", json!({"fdset-id": index}), Some(image.as_fd()))?;
        let options = json!({
            "driver": "file",
            "node-name": file,
            "filename": format!("/dev/fdset/{index}"),
            "read-only": !mode.is_writable(),
            "cache": {"no-flush": mode == DiskMode::Scratch},
            "discard": "unmap",
            "locking": "off",
        });
        self.send("blockdev-add", options)?;
        self.reopen(index, mode, &file)
    }

    /// Takes the image from disk `index`, and closes it.
    pub(in crate::engine) fn detach(&mut self, index: usize, mode: DiskMode) -> Result<(), Error> {
        self.reopen(index, mode, &format!("null{index}"))?;
        self.send("blockdev-del", json!({"node-name": format!("file{index}")}))?;
        self.send("remove-fd", json!({"fdset-id": index}))
    }

    fn reopen(&mut self, index: usize, mode: DiskMode, file: &str) -> Result<(), Error> {
        let disk = json!({
            "driver": "raw",
            "node-name": format!("disk{index}"),
            "file": file,
            "read-only": !mode.is_writable(),
            "discard": "unmap",
        });
        self.send("blockdev-reopen", json!({"options": [disk]}))
    }

    /// Waits until every command has been answered.
    pub(in crate::engine) fn settle(&mut self, deadline: Instant) -> Result<(), Error> {
        while !self.unanswered.is_empty() {
            self.next_event(deadline)?;
        }
        Ok(())
    }

    /// Has the machine read from the descriptor `state`, which QEMU has inherited. May be called before QEMU is up.
    pub(in crate::engine) fn load(&mut self, state: RawFd) -> Result<(), Error> {
        self.send("migrate-incoming", json!({"uri": format!("fd:{state}")}))
    }

    /// Waits until the machine runs that was loaded. Returns when it went on, by the host's clock in nanoseconds since the Unix epoch.
    pub(in crate::engine) fn resumed(&mut self, deadline: Instant) -> Result<u64, Error> {
        loop {
            if let Some(event) = self.next_event(deadline)?
                && event.name == "RESUME"
            {
                return Ok(event.at_ns);
            }
        }
    }

    /// Sends a command. Its answer is taken in with whatever is waited for next.
    fn send(&mut self, command: &'static str, arguments: Value) -> Result<(), Error> {
        self.send_with(command, arguments, None)
    }

    fn send_with(
        &mut self,
        command: &'static str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let mut line = serde_json::to_vec(&Command { execute: command, arguments }).expect("commands have string keys");
        line.push(b'\n');
        let sent = match descriptor {
            None => self.stream.write_all(&line),
            Some(descriptor) => send_descriptor(&self.stream, &line, descriptor),
        };
        sent.map_err(|_| Error::GuestLost)?;
        self.unanswered.push_back(command);
        Ok(())
    }

    /// Takes in one line. `None` when it was an answer or the greeting; one that reports a failure is an error.
    fn next_event(&mut self, deadline: Instant) -> Result<Option<Event>, Error> {
        let line = self.next_line(deadline)?;
        let line: Line = serde_json::from_slice(&line).map_err(|error| failed("speak", &error.to_string()))?;
        if line.greeting.is_some() {
            self.greeted = true;
        }
        if line.answer.is_some() {
            self.unanswered.pop_front();
        }
        if let Some(failure) = line.error {
            return Err(failed(self.unanswered.pop_front().unwrap_or("speak"), &failure.desc));
        }
        let (Some(name), Some(Timestamp { seconds, microseconds })) = (line.event, line.timestamp) else {
            return Ok(None);
        };
        let at_ns = seconds.saturating_mul(1_000_000_000).saturating_add(microseconds.saturating_mul(1000));
        Ok(Some(Event { name, data: line.data.unwrap_or_default(), at_ns }))
    }

    fn next_line(&mut self, deadline: Instant) -> Result<Vec<u8>, Error> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.received) {
                return Ok(self.received.drain(..=end).collect());
            }
            if self.received.len() > MAX_LINE {
                return Err(failed("speak", "a line has no end"));
            }
            await_readable(&self.stream, deadline)?;
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                // It closes when QEMU ends, which is the better thing to tell.
                Ok(0) => return Err(Error::GuestLost),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Error::GuestLost),
            }
        }
    }
}

fn failed(command: &'static str, said: &str) -> Error {
    // On its way to a terminal: one line, of a bounded length.
    Error::EngineCommand { command, said: said.chars().filter(|c| !c.is_control()).take(500).collect() }
}

fn await_readable(stream: &UnixStream, deadline: Instant) -> Result<(), Error> {
    loop {
        let left = deadline.checked_duration_since(Instant::now()).ok_or(Error::DeadlinePassed)?;
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(Error::DeadlinePassed),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Channel { source: errno.into() }),
        }
    }
}

/// The line is short and the buffer of a socket is not, so it goes in one piece.
fn send_descriptor(stream: &UnixStream, line: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(stream, &[IoSlice::new(line)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pair() -> (Monitor, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Monitor::new(ours), theirs)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[test]
    fn a_refused_command_is_named() {
        let (mut monitor, mut engine) = pair();
        monitor.prepare().unwrap();
        monitor.load(7).unwrap();
        engine
            .write_all(b"{\"QMP\": {}}\r\n{\"return\": {}}\r\n{\"return\": {}}\r\n{\"error\": {\"class\": \"x\", \"desc\": \"no\"}}\r\n")
            .unwrap();
        let error = monitor.resumed(soon()).unwrap_err();
        assert!(
            matches!(&error, Error::EngineCommand { command: "migrate-incoming", said } if said == "no"),
            "{error}"
        );
    }

    #[test]
    fn the_moment_a_machine_went_on_is_the_events() {
        let (mut monitor, mut engine) = pair();
        let event = r#"{"timestamp": {"seconds": 1700000000, "microseconds": 250000}, "event": "RESUME"}"#.as_bytes();
        engine.write_all(&[b"{\"QMP\": {}}\n{\"event\": \"NOISE\"}\n", event, b"\n"].concat()).unwrap();
        assert_eq!(monitor.resumed(soon()).unwrap(), 1_700_000_000_250_000_000);
    }

    #[test]
    fn an_engine_that_ends_or_babbles_is_an_error_and_not_a_wait() {
        let (mut monitor, engine) = pair();
        drop(engine);
        assert!(matches!(monitor.greeting(soon()), Err(Error::GuestLost)));
        let (mut monitor, mut engine) = pair();
        let writer = std::thread::spawn(move || while engine.write_all(&[b'x'; 4096]).is_ok() {});
        assert!(matches!(monitor.greeting(soon()), Err(Error::EngineCommand { .. })));
        drop(monitor);
        writer.join().unwrap();
    }
}
