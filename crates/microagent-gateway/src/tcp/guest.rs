//! The guest's end of a connection.

use super::pages::Home;
use crate::edge::Edge;
use rustix::io::Errno;
use smoltcp::socket::tcp::State;
use smoltcp::wire::IpListenEndpoint;
use std::net::SocketAddrV4;
use std::time::Instant;

/// Bytes each way of a connection.
///
/// One less than a power of two: the stack takes the window of its first segment, of at most 65535, for one that is
/// scaled, so that 65535 times the scale must not exceed the buffer, lest a guest that does not heed its window writes
/// past the end.
const LARGE: usize = (256 << 10) - 1;
/// The same where there are many: each has less to do, and all of them together must not be more than a host can spare.
const SMALL: usize = 32 << 10;
/// How many are many: up to then the buffers are 64 MiB at most, and those beyond add 64 KiB each.
const MANY: usize = 128;

/// The guest's end of a connection.
pub(crate) struct Guest {
    home: Home,
    /// The guest has reset it.
    reset: bool,
    /// We have.
    aborted: bool,
    /// The last acknowledgement is sent: see [`Guest::send`].
    parted: bool,
}

/// How often a guest that has said everything is asked whether it still listens.
const ASK_AGAIN: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(15);

impl Guest {
    /// Accepts the connection that the segment `syn` asks for. `others` is how many there are.
    pub(crate) fn accept(edge: &mut Edge, to: SocketAddrV4, syn: &[u8], others: usize) -> Result<Guest, Errno> {
        let size = if others < MANY { LARGE } else { SMALL };
        let mut home = Home::new(size, size)?;
        let socket = home.socket_mut();
        socket.set_nagle_enabled(false);
        // Segments are as large as the window: there is no second one to wait for.
        socket.set_ack_delay(None);
        let _ = socket.listen(IpListenEndpoint { addr: Some((*to.ip()).into()), port: to.port() });
        let mut guest = Guest { home, reset: false, aborted: false, parted: false };
        guest.receive(edge, syn);
        // A segment that the stack makes nothing of would be waited for.
        if guest.state() == State::Listen { Err(Errno::INVAL) } else { Ok(guest) }
    }

    /// A segment came.
    pub(crate) fn receive(&mut self, edge: &mut Edge, segment: &[u8]) {
        let before = self.state();
        edge.receive(segment, self.home.sockets());
        let is_over = matches!(self.state(), State::Closed | State::Listen);
        // Who acknowledges our end after his own has closed it; everybody else who closes it resets it.
        self.reset |= is_over && !matches!(before, State::Closed | State::LastAck | State::Listen);
        let socket = self.home.socket_mut();
        if socket.state() == State::CloseWait && socket.keep_alive().is_none() {
            // Who says nothing more may wait for an answer, or be gone, which looks the same. One that is gone answers with a reset.
            socket.set_keep_alive(Some(ASK_AGAIN));
        }
    }

    /// Sends what there is to send. Whether that was all.
    pub(crate) fn send(&mut self, edge: &mut Edge) -> bool {
        if self.parted {
            return true;
        }
        let is_all = edge.send(self.home.sockets());
        // The stack forgets a socket some time after both ends have closed, with what was not read of it. Left alone it
        // does not.
        self.parted = is_all && self.state() == State::TimeWait;
        is_all
    }

    /// When there is something to do if nothing comes.
    pub(crate) fn deadline(&mut self, edge: &mut Edge) -> Option<Instant> {
        if self.parted { None } else { edge.deadline(self.home.sockets()) }
    }

    /// Whether the guest has reset it.
    pub(crate) fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether both ends are closed and nothing is left to be read.
    pub(crate) fn is_over(&self) -> bool {
        self.home.socket().recv_queue() == 0 && (self.parted || self.state() == State::Closed && self.is_silent())
    }

    /// Whether the guest has everything that was said to it.
    pub(crate) fn has_all(&self) -> bool {
        self.home.socket().send_queue() == 0
    }

    /// Whether the handshake is through.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state(), State::Listen | State::SynReceived)
    }

    /// Whether the guest has said everything, and all of it is taken.
    pub(crate) fn has_finished(&self) -> bool {
        let socket = self.home.socket();
        self.is_open() && !socket.may_recv() && socket.recv_queue() == 0
    }

    /// Whether the guest has said everything.
    pub(crate) fn has_said_all(&self) -> bool {
        matches!(self.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed)
    }

    /// What the guest has said and nobody took yet: all of it, as long as nobody took anything.
    pub(crate) fn said(&mut self) -> &[u8] {
        let socket = self.home.socket_mut();
        let count = socket.recv_queue();
        socket.peek(count).unwrap_or_default()
    }

    /// Takes what the guest has said, as much as `take` does of it.
    pub(crate) fn take<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> Option<R> {
        let socket = self.home.socket_mut();
        if !socket.can_recv() {
            return None;
        }
        socket.recv(|said| take(said)).ok()
    }

    /// Copies the beginning of what the guest has said, without taking it.
    pub(crate) fn copy(&mut self, place: &mut [u8]) -> usize {
        self.home.socket_mut().peek_slice(place).unwrap_or(0)
    }

    /// Takes `count` bytes, or all there are, and forgets them.
    pub(crate) fn skip(&mut self, mut count: usize) {
        while count > 0
            && let Some(taken) = self.take(|said| {
                let taken = said.len().min(count);
                (taken, taken)
            })
        {
            count -= taken;
        }
    }

    /// Bytes that can be said to the guest.
    pub(crate) fn room(&self) -> usize {
        let socket = self.home.socket();
        if socket.can_send() { socket.send_capacity() - socket.send_queue() } else { 0 }
    }

    /// Says to the guest what `give` puts in the place that it is handed.
    pub(crate) fn give<R>(&mut self, give: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        if self.room() == 0 {
            return None;
        }
        self.home.socket_mut().send(give).ok()
    }

    /// There is no more to say.
    pub(crate) fn close(&mut self) {
        // The stack would send its end without a beginning.
        if self.is_open() { self.home.socket_mut().close() } else { self.abort() }
    }

    /// Breaks it off.
    pub(crate) fn abort(&mut self) {
        self.aborted = true;
        self.home.socket_mut().abort();
    }

    /// Whether no reset is left to be sent.
    fn is_silent(&self) -> bool {
        !self.aborted || self.home.socket().remote_endpoint().is_none()
    }

    fn state(&self) -> State {
        self.home.socket().state()
    }
}
