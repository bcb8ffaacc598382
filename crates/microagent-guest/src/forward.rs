//! Connections that lead through the channel: from a port of the host to a port of the workspace, and from a socket of the workspace to
//! the host.

use crate::agent::{Agent, Life};
use crate::outbox::Outbox;
use crate::refusal::{quoted, refusal};
use crate::requests::not_ready;
use crate::streams::{Input, Output};
use microagent_protocol::{Frame, Kind, ON_DEMAND, Refusal, RefusalCode, Reply};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most connections at once. Each takes two descriptors and two windows of the agent.
const MAX_CONNECTIONS: usize = 1024;

/// Connections of a workspace, by the call that asked for each.
#[derive(Default)]
pub(crate) struct Forwards {
    open: BTreeMap<u32, Forward>,
    /// Calls that wait for a process to connect to a socket.
    accepting: Vec<Accepting>,
    /// The call each open stream belongs to.
    streams: BTreeMap<u32, u32>,
}

/// One connection.
enum Forward {
    /// The kernel is at it.
    Connecting { socket: OwnedFd, next: VecDeque<SocketAddr>, port: u16, input: u32, output: u32 },
    /// It is there.
    Open { input: Input, output: Output },
}

struct Accepting {
    call: u32,
    socket: String,
    input: u32,
    output: u32,
}

/// What is ready of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The kernel has made it, or not.
    Connected(u32),
    /// It takes bytes.
    Input(u32),
    /// It has bytes.
    Output(u32),
    /// Somebody connects to a socket that this call waits for.
    Accept(u32),
}

impl Forwards {
    /// Whether the call is about a connection that has not ended.
    pub(crate) fn has(&self, call: u32) -> bool {
        self.open.contains_key(&call) || self.accepting.iter().any(|accepting| accepting.call == call)
    }

    /// Whether a stream is one of a connection's.
    pub(crate) fn has_stream(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Whether what comes on a stream may be a secret.
    pub(crate) fn is_secret(&self, stream: u32) -> bool {
        let forward = self.streams.get(&stream).and_then(|call| self.open.get(call));
        matches!(forward, Some(Forward::Open { input, .. }) if input.is_secret())
    }

    fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether somebody who connects can be taken in.
    pub(crate) fn have_room(&self) -> bool {
        self.count() < MAX_CONNECTIONS
    }

    /// What is to be waited for, as far as sockets of the workspace are not concerned. `takes_output` says whether there is room for output.
    pub(crate) fn watched(&self, takes_output: bool) -> Vec<(Ready, BorrowedFd<'_>, PollFlags)> {
        let mut watched = Vec::new();
        for (&call, forward) in &self.open {
            match forward {
                Forward::Connecting { socket, .. } => {
                    watched.push((Ready::Connected(call), socket.as_fd(), PollFlags::OUT));
                }
                Forward::Open { input, output } => {
                    if let Some((socket, pending)) = input.writable_when() {
                        let events = if pending { PollFlags::OUT } else { PollFlags::empty() };
                        watched.push((Ready::Input(call), socket, events));
                    }
                    if let Some(socket) = output.readable_when().filter(|_| takes_output) {
                        watched.push((Ready::Output(call), socket, PollFlags::IN));
                    }
                }
            }
        }
        watched
    }

    /// The sockets of the workspace that somebody waits at, each with the call that waits longest.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = (u32, &str)> {
        let first = |at: usize, socket: &str| !self.accepting[..at].iter().any(|before| before.socket == socket);
        let waiting = self.accepting.iter().enumerate();
        waiting
            .filter(move |(at, accepting)| first(*at, &accepting.socket))
            .map(|(_, accepting)| (accepting.call, accepting.socket.as_str()))
    }

    /// Acts on a frame of a stream.
    pub(crate) fn take(
        &mut self,
        frame: &Frame,
        outbox: &mut Outbox,
    ) -> Result<(), microagent_protocol::CreditExceeded> {
        let Some(&call) = self.streams.get(&frame.id) else { return Ok(()) };
        let Some(Forward::Open { input, output }) = self.open.get_mut(&call) else {
            if matches!(frame.kind, Kind::End | Kind::Reset) {
                // The host has given up before the kernel had made it.
                self.open.remove(&call);
                self.streams.retain(|_, of| *of != call);
            }
            return Ok(());
        };
        match frame.kind {
            Kind::Data if input.id() == frame.id => input.receive(&frame.payload, outbox)?,
            Kind::End if input.id() == frame.id => input.end(outbox),
            Kind::Credit if output.id() == frame.id => {
                if let Some(bytes) = frame.credit_granted() {
                    output.grant(bytes);
                }
            }
            Kind::Reset if output.id() == frame.id => output.reset(),
            _ => {}
        }
        Ok(())
    }

    /// Forgets connections that have ended.
    pub(crate) fn finish(&mut self) {
        let streams = &mut self.streams;
        self.open.retain(|_, forward| {
            let Forward::Open { input, output } = forward else { return true };
            let over = input.is_closed() && output.is_closed();
            if over {
                streams.remove(&input.id());
                streams.remove(&output.id());
            }
            !over
        });
    }

    fn open(&mut self, call: u32, input: u32, output: u32, socket: OwnedFd, secret: bool) -> rustix::io::Result<()> {
        let again = fcntl_dupfd_cloexec(&socket, 0)?;
        let ids = [input, output];
        let input = Input::of_connection(input, again, secret);
        let forward = Forward::Open { input, output: Output::new(output, socket) };
        self.open.insert(call, forward);
        self.streams.extend(ids.map(|id| (id, call)));
        Ok(())
    }
}

impl Agent {
    /// Connects to a port of the workspace, at whichever of its addresses somebody listens.
    pub(super) fn connect(&mut self, call: u32, port: u16, input: u32, output: u32) -> Result<(), Refusal> {
        self.check_forward(call, input, output)?;
        let Life::Ready(workspace) = &self.life else { return Err(not_ready()) };
        let own = workspace.address.map(|address| SocketAddr::new(address.into(), port));
        let loopback =
            [SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)];
        let next: VecDeque<SocketAddr> = loopback.into_iter().chain(own).collect();
        let outcome = self.try_next(call, next, port, input, output);
        self.close_unless(outcome, input, output)
    }

    /// Waits for somebody to connect to a socket.
    pub(super) fn accept(&mut self, call: u32, socket: String, input: u32, output: u32) -> Result<(), Refusal> {
        self.check_streams(call, &[output], Some(input))?;
        if self.forwards.accepting.len() >= MAX_CONNECTIONS {
            return Err(refusal(RefusalCode::System, format!("{MAX_CONNECTIONS} calls wait for connections already")));
        }
        let Life::Ready(workspace) = &self.life else { return Err(not_ready()) };
        if !workspace.private.sockets.contains_key(&socket) {
            let what = format!("the workspace has no socket {}", quoted(&socket));
            return self.close_unless(Err(refusal(RefusalCode::BadRequest, what)), input, output);
        }
        self.forwards.accepting.push(Accepting { call, socket, input, output });
        Ok(())
    }

    fn check_forward(&self, call: u32, input: u32, output: u32) -> Result<(), Refusal> {
        self.check_streams(call, &[output], Some(input))?;
        if self.forwards.count() >= MAX_CONNECTIONS {
            let what = format!("{MAX_CONNECTIONS} connections are open already");
            return Err(refusal(RefusalCode::System, what));
        }
        Ok(())
    }

    /// Ends the streams of a connection that is not to be, so that nobody waits for them.
    fn close_unless(&mut self, outcome: Result<(), Refusal>, input: u32, output: u32) -> Result<(), Refusal> {
        if outcome.is_err() {
            self.outbox.push_empty(Kind::End, output);
            self.outbox.push_empty(Kind::Reset, input);
        }
        outcome
    }

    /// Connects to the next of the addresses at which somebody may listen.
    fn try_next(
        &mut self,
        call: u32,
        mut next: VecDeque<SocketAddr>,
        port: u16,
        input: u32,
        output: u32,
    ) -> Result<(), Refusal> {
        let mut last = Errno::CONNREFUSED;
        while let Some(address) = next.pop_front() {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match socket_with(family, SocketType::STREAM, flags, None) {
                Ok(socket) => socket,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match connect(&socket, &address) {
                Ok(()) => return self.connected(call, socket, input, output, false),
                Err(Errno::INPROGRESS) => {
                    self.forwards.streams.extend([(input, call), (output, call)]);
                    let connecting = Forward::Connecting { socket, next, port, input, output };
                    self.forwards.open.insert(call, connecting);
                    return Ok(());
                }
                // An address that this machine has not refuses nothing.
                Err(Errno::ADDRNOTAVAIL | Errno::NETUNREACH) => {}
                Err(error) => last = error,
            }
        }
        let what = format!("nobody in the workspace listens on port {port}: {last}");
        Err(refusal(RefusalCode::ConnectionRefused, what))
    }

    fn connected(&mut self, call: u32, socket: OwnedFd, input: u32, output: u32, secret: bool) -> Result<(), Refusal> {
        // What is typed at one end is wanted at the other.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        self.forwards
            .open(call, input, output, socket, secret)
            .map_err(|error| refusal(RefusalCode::System, format!("cannot keep a connection: {error}")))?;
        self.reply(call, Ok(Reply::Done));
        Ok(())
    }

    /// Acts on what is ready.
    pub(super) fn forward(&mut self, ready: Ready, events: PollFlags) {
        match ready {
            Ready::Connected(call) => {
                let Some(Forward::Connecting { socket, next, port, input, output }) = self.forwards.open.remove(&call)
                else {
                    return;
                };
                let outcome = match sockopt::socket_error(&socket) {
                    Ok(Ok(())) => self.connected(call, socket, input, output, false),
                    _ => self.try_next(call, next, port, input, output),
                };
                if let Err(refused) = self.close_unless(outcome, input, output) {
                    self.forwards.streams.retain(|_, of| *of != call);
                    self.reply(call, Err(refused));
                }
            }
            Ready::Input(call) => {
                if let Some(Forward::Open { input, .. }) = self.forwards.open.get_mut(&call) {
                    let gone = events.intersects(PollFlags::ERR | PollFlags::HUP);
                    if gone { input.abandon(&mut self.outbox) } else { input.pump(&mut self.outbox) }
                }
            }
            Ready::Output(call) => {
                if let Some(Forward::Open { output, .. }) = self.forwards.open.get_mut(&call) {
                    output.pump(&mut self.outbox);
                }
            }
            Ready::Accept(call) => self.accept_one(call),
        }
    }

    fn accept_one(&mut self, call: u32) {
        let Life::Ready(workspace) = &self.life else { return };
        let Some(at) = self.forwards.accepting.iter().position(|accepting| accepting.call == call) else { return };
        let Some(listener) = workspace.private.sockets.get(&self.forwards.accepting[at].socket) else { return };
        let Ok((stream, _)) = listener.accept() else { return };
        let Accepting { input, output, socket, .. } = self.forwards.accepting.remove(at);
        let outcome = stream.set_nonblocking(true).map_err(|error| refusal(RefusalCode::System, error));
        let outcome = outcome.and_then(|()| self.connected(call, stream.into(), input, output, socket == ON_DEMAND));
        if let Err(refused) = self.close_unless(outcome, input, output) {
            self.reply(call, Err(refused));
        }
    }

    /// Answers those that wait for what cannot come any more.
    pub(super) fn end_forwards(&mut self) {
        for Accepting { call, input, output, .. } in std::mem::take(&mut self.forwards.accepting) {
            let _ = self.close_unless(Err(not_ready()), input, output);
            self.reply(call, Err(not_ready()));
        }
    }
}
