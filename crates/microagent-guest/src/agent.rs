//! The agent at work: one loop that waits for the host, for commands and for their output.
//!
//! Nothing in the loop blocks. Each turn waits until some descriptor is ready, serves what is, queues the frames that
//! result and gives the port as many of them as it takes. What bounds memory: a stream holds at most its window, output is
//! read only while the outbox is short, requests only while it is not long.

use crate::forward::{Forwards, Ready};
use crate::outbox::{OUTPUT_LIMIT, Outbox, REQUEST_LIMIT};
use crate::port::Port;
use crate::process::{Process, push_reply};
use crate::quiet::Kept;
use crate::refusal::refusal;
use crate::streams::{Input, Output};
use crate::sys;
use crate::workspace::{self, Workspace};
use microagent_protocol::frame::{HEADER_LEN, MAX_DATA};
use microagent_protocol::{CreditExceeded, Decoder, Frame, FrameError, Kind, Refusal, RefusalCode, Reply, wipe};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};
use std::collections::BTreeMap;
use std::time::Instant;

/// Most bytes of one read. The kernel hands out a page at a time.
const READ_BYTES: usize = 4096;

/// Reads of the port in one turn, so that a busy host does not keep the agent from its commands: a full
/// window of standard input.
const READS_PER_TURN: usize = 64;

/// Why the conversation is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    /// The host closed its end.
    #[error("the host has left")]
    HostLeft,
    /// What came from the host is not a frame.
    #[error("the host broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// The host sent more of a stream than it may.
    #[error("the host broke the protocol: {0}")]
    Credit(#[from] CreditExceeded),
    /// A frame that only a guest sends, or that is malformed.
    #[error("the host broke the protocol: {0:?} frame out of place")]
    OutOfPlace(Kind),
    /// The kernel refused something the agent cannot do without.
    #[error("cannot {0}: {1}")]
    System(&'static str, Errno),
}

/// What the machine is.
pub(super) enum Life {
    /// Booted, and nobody's yet.
    Waiting,
    /// The workspace's.
    Ready(Workspace),
    /// Being taken apart by that call.
    Stopping(u32, Workspace, Then),
    /// Shut down, or not assembled: only the end is left.
    Spent,
}

/// What a machine becomes when its workspace has been taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It ends.
    Spent,
    /// It waits for another workspace.
    Waiting,
}

/// The agent's state.
pub(crate) struct Agent {
    port: Port,
    children: OwnedFd,
    decoder: Decoder,
    received: Vec<u8>,
    turns: usize,
    /// `/dev/null`, opened before anybody could remove it.
    pub(super) null: OwnedFd,
    pub(super) outbox: Outbox,
    pub(super) life: Life,
    /// Running commands, by the call that started each.
    pub(super) processes: BTreeMap<u32, Process>,
    /// The command each open stream belongs to.
    pub(super) streams: BTreeMap<u32, u32>,
    /// Connections that lead through the channel.
    pub(super) forwards: Forwards,
    /// Processes that flush the disks, each with the call that waits for it.
    pub(super) flushes: Vec<(Pid, u32)>,
    /// While the machine stands still: what is told when it goes on.
    pub(super) quiet: Option<Kept>,
}

/// What a descriptor of the loop stands for.
#[derive(Clone, Copy)]
enum Source {
    Port,
    Children,
    Report(u32),
    Stdin(u32),
    Output(u32, usize),
    Forward(Ready),
}

impl Agent {
    /// An agent that has sent its greeting on `port`.
    pub(crate) fn new(port: Port) -> Result<Agent, Closed> {
        let children = sys::child_events().map_err(|error| Closed::System("watch for the end of processes", error))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Closed::System("open `/dev/null`", error))?;
        Ok(Agent {
            port,
            null,
            children,
            decoder: Decoder::with_room(HEADER_LEN + MAX_DATA + READ_BYTES),
            received: vec![0; READ_BYTES],
            turns: 0,
            outbox: Outbox::default(),
            life: Life::Waiting,
            processes: BTreeMap::new(),
            streams: BTreeMap::new(),
            forwards: Forwards::default(),
            flushes: Vec::new(),
            quiet: None,
        })
    }

    /// Serves the host until the conversation is over.
    pub(crate) fn serve(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.turn() {
                return closed;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Closed> {
        let mut ready = self.wait()?;
        // A different stream goes first each time, or the first ones would use up the outbox's room every time.
        self.turns = self.turns.wrapping_add(1);
        let first = self.turns % ready.len().max(1);
        ready.rotate_left(first);
        for (source, events) in ready {
            match source {
                // It was ready when the machine did not stand still yet.
                Source::Stdin(_) | Source::Output(..) | Source::Forward(_) if self.is_quiet() => {}
                Source::Port => self.read_port(events)?,
                Source::Children => self.reap()?,
                Source::Report(call) => self.with(call, |process, _| process.read_report()),
                Source::Stdin(call) => self.with(call, |process, outbox| {
                    if let Some(stdin) = &mut process.stdin {
                        if events.contains(PollFlags::ERR) { stdin.abandon(outbox) } else { stdin.pump(outbox) }
                    }
                }),
                Source::Output(call, which) => {
                    self.with(call, |process, outbox| process.outputs[which].pump(outbox));
                }
                Source::Forward(ready) => self.forward(ready, events),
            }
        }
        if !self.is_quiet() {
            self.finish_commands();
            self.forwards.finish();
        }
        self.flush()
    }

    fn with(&mut self, call: u32, act: impl FnOnce(&mut Process, &mut Outbox)) {
        if let Some(process) = self.processes.get_mut(&call) {
            act(process, &mut self.outbox);
        }
    }

    /// Waits until there is something to do, and says what.
    fn wait(&self) -> Result<Vec<(Source, PollFlags)>, Closed> {
        let (mut sources, mut fds) = (Vec::new(), Vec::new());
        let mut watch = |source, fd, events| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, events));
        };
        let unsent = self.outbox.unsent().len();
        let mut port = PollFlags::empty();
        port.set(PollFlags::IN, unsent < REQUEST_LIMIT);
        port.set(PollFlags::OUT, unsent > 0);
        watch(Source::Port, self.port.as_fd(), port);
        watch(Source::Children, self.children.as_fd(), PollFlags::IN);
        for (&call, process) in &self.processes {
            if let Some(report) = process.report() {
                watch(Source::Report(call), report, PollFlags::IN);
            }
            if self.is_quiet() {
                continue;
            }
            if let Some((pipe, pending)) = process.stdin.as_ref().and_then(Input::writable_when) {
                watch(Source::Stdin(call), pipe, if pending { PollFlags::OUT } else { PollFlags::empty() });
            }
            if unsent < OUTPUT_LIMIT {
                for (which, output) in process.outputs.iter().enumerate() {
                    if let Some(pipe) = output.readable_when() {
                        watch(Source::Output(call, which), pipe, PollFlags::IN);
                    }
                }
            }
        }
        if !self.is_quiet() {
            for (ready, fd, events) in self.forwards.watched(unsent < OUTPUT_LIMIT) {
                watch(Source::Forward(ready), fd, events);
            }
        }
        if let Life::Ready(workspace) = &self.life
            && self.forwards.have_room()
            && !self.is_quiet()
        {
            for (call, socket) in self.forwards.awaited() {
                if let Some(listener) = workspace.private.sockets.get(socket) {
                    watch(Source::Forward(Ready::Accept(call)), listener.as_fd(), PollFlags::IN);
                }
            }
        }
        let deadlines = self.processes.values().filter(|_| !self.is_quiet()).filter_map(Process::deadline);
        let timeout = deadlines.min().map(until);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Closed::System("wait for events", error)),
        }
        let ready = sources.into_iter().zip(&fds).map(|(source, fd)| (source, fd.revents()));
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    fn read_port(&mut self, events: PollFlags) -> Result<(), Closed> {
        if events.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Closed::HostLeft);
        }
        for _ in 0..READS_PER_TURN {
            if self.outbox.unsent().len() >= REQUEST_LIMIT {
                break;
            }
            match rustix::io::read(&self.port, &mut self.received[..]) {
                Ok(0) => return Err(Closed::HostLeft),
                Ok(count) => self.decoder.extend(&self.received[..count]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Closed::System("read from the host", error)),
            }
            while let Some(mut frame) = self.decoder.next_frame()? {
                let leaves_nothing = frame.kind == Kind::Data && self.may_be_secret(frame.id);
                self.take(&frame)?;
                if leaves_nothing {
                    wipe(&mut frame.payload);
                    wipe(&mut self.received);
                    self.decoder.wipe_taken();
                }
            }
        }
        Ok(())
    }

    /// Whether a stream carries a secret. What nobody takes may be the rest of one that was refused.
    fn may_be_secret(&self, stream: u32) -> bool {
        if self.is_quiet() {
            return true;
        }
        match self.streams.get(&stream).and_then(|call| self.processes.get(call)) {
            Some(process) => process.is_secret(),
            None => !self.forwards.has_stream(stream) || self.forwards.is_secret(stream),
        }
    }

    /// Acts on one frame. Frames for streams that are over are dropped: the host may not know yet. So are those of all streams while the
    /// machine stands still.
    fn take(&mut self, frame: &Frame) -> Result<(), Closed> {
        if frame.kind == Kind::Call {
            return self.answer(frame.id, &frame.payload);
        }
        if self.is_quiet() && !matches!(frame.kind, Kind::Hello | Kind::Reply) {
            return Ok(());
        }
        if self.forwards.has_stream(frame.id) {
            return Ok(self.forwards.take(frame, &mut self.outbox)?);
        }
        let process = self.streams.get(&frame.id).and_then(|call| self.processes.get_mut(call));
        match frame.kind {
            Kind::Data | Kind::End => {
                let stdin = process.and_then(|process| process.stdin.as_mut()).filter(|stdin| stdin.id() == frame.id);
                match stdin {
                    Some(stdin) if frame.kind == Kind::Data => stdin.receive(&frame.payload, &mut self.outbox)?,
                    Some(stdin) => stdin.end(&mut self.outbox),
                    None => {}
                }
            }
            Kind::Credit => {
                let bytes = frame.credit_granted().ok_or(Closed::OutOfPlace(frame.kind))?;
                if let Some(output) = output(process, frame.id) {
                    output.grant(bytes);
                }
            }
            Kind::Reset => {
                if let Some(process) = process {
                    process.reset(frame.id, &mut self.outbox);
                }
            }
            Kind::Hello | Kind::Call | Kind::Reply => return Err(Closed::OutOfPlace(frame.kind)),
        }
        Ok(())
    }

    /// Reaps every process that has ended: commands, and orphans that have become children of PID 1.
    fn reap(&mut self) -> Result<(), Closed> {
        // What it says is less than what there is to reap: signals that are pending already are not queued again.
        match rustix::io::read(&self.children, &mut self.received[..]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(Closed::System("watch for the end of processes", error)),
        }
        self.reap_ended()
    }

    /// Reaps what has ended by now.
    pub(super) fn reap_ended(&mut self) -> Result<(), Closed> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(process) = self.processes.values_mut().find(|process| process.is(pid)) {
                        process.ended(status);
                    } else if let Some(index) = self.flushes.iter().position(|(flush, _)| *flush == pid) {
                        let (_, call) = self.flushes.swap_remove(index);
                        let flushed = status.exit_status() == Some(0);
                        self.reply_later(call, if flushed { Ok(Reply::Done) } else { Err(flush_killed()) });
                    }
                }
                Ok(None) => return Ok(()),
                Err(Errno::CHILD) => {
                    self.all_ended();
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Closed::System("reap processes", error)),
            }
        }
    }

    fn finish_commands(&mut self) {
        let (outbox, streams) = (&mut self.outbox, &mut self.streams);
        self.processes.retain(|&call, process| {
            let over = process.finish(call, outbox);
            if over {
                streams.retain(|_, of| *of != call);
            }
            !over
        });
    }

    /// No process is left. If that was asked for, the machine can be put to rest.
    fn all_ended(&mut self) {
        match std::mem::replace(&mut self.life, Life::Spent) {
            Life::Stopping(call, workspace, then) => {
                self.end_forwards();
                self.processes.values_mut().for_each(|process| process.abandon_output(&mut self.outbox));
                self.finish_commands();
                let mut dismantled = workspace.dismantle();
                if then == Then::Waiting && dismantled.is_ok() {
                    dismantled = workspace::let_go();
                    if dismantled.is_ok() {
                        self.life = Life::Waiting;
                    }
                }
                self.reply(call, dismantled.map(|()| Reply::Done));
            }
            life => self.life = life,
        }
    }

    /// Queues the reply to a call.
    pub(super) fn reply(&mut self, call: u32, result: Result<Reply, Refusal>) {
        push_reply(&mut self.outbox, call, &result.unwrap_or_else(Reply::Refused));
    }

    fn flush(&mut self) -> Result<(), Closed> {
        while !self.outbox.unsent().is_empty() {
            match rustix::io::write(&self.port, self.outbox.unsent()) {
                Ok(count) => self.outbox.advance(count),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::NODEV | Errno::IO) => return Err(Closed::HostLeft),
                Err(error) => return Err(Closed::System("write to the host", error)),
            }
        }
        Ok(())
    }
}

fn output(process: Option<&mut Process>, id: u32) -> Option<&mut Output> {
    process?.outputs.iter_mut().find(|output| output.id() == id)
}

fn flush_killed() -> Refusal {
    refusal(RefusalCode::System, "the machine shut down before the disks were flushed")
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}
