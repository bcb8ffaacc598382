//! Reads the head of every HTTP/1 message before the HTTP library does.
//!
//! The library makes one sound request of a head that could be read in two ways, and forgets that it could. A client that sends such a
//! head means to be read differently further on (request smuggling, RFC 9112, 11.2), so it is told, and the attempt is in the record.
//! For that, what is refused is replaced by a request that stands for the refusal, and nothing is read after it.

use crate::limits::{HEAD_BYTES, HEAD_FIELDS, HEAD_TIME};
use bytes::{Buf, BytesMut};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

mod framing;

use framing::{Framing, Head};

/// The field of the request that stands for a refusal.
pub(crate) const REFUSAL_FIELD: &str = "microagent-refusal";
/// How long a client that was refused may go on before the connection is closed over it.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(5);
/// What one read of a head may bring.
const READ: usize = 8 << 10;

/// Why a head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not HTTP/1, or could be read in two ways: this about it.
    Malformed(&'static str),
    /// It is too long, or has too many fields.
    TooLarge,
    /// It did not come.
    TooSlow,
    /// It was sound, and the chunks of its body are not.
    Broken,
}

/// What the two ends of a gate tell each other.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    refusal: OnceLock<Refusal>,
    upgraded: AtomicBool,
    awaits_upgrade: AtomicBool,
    lingers: AtomicBool,
}

impl Signals {
    /// What was refused, if anything was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    /// The answer comes before the request is over, and is the last.
    pub(crate) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    /// Whether the answer that is awaited may make something else of the connection.
    pub(crate) fn expect_upgrade(&self, is_expected: bool) {
        self.awaits_upgrade.store(is_expected, Ordering::Relaxed);
    }

    /// Whether the connection is, or may become, something else.
    pub(crate) fn may_be_upgraded(&self) -> bool {
        self.awaits_upgrade.load(Ordering::Relaxed) || self.is_upgraded()
    }

    /// From now on it is no more HTTP.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Whether that was said.
    fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }
}

/// A stream from the guest, in which only sound messages pass.
pub(crate) struct Gate<S> {
    stream: S,
    signals: Arc<Signals>,
    /// Read, and not looked at to its end.
    pending: BytesMut,
    /// Looked at, and not given out.
    ready: BytesMut,
    state: State,
    deadline: Pin<Box<Sleep>>,
    is_timed: bool,
    is_shut: bool,
}

enum State {
    /// Before or in the head of a message.
    Head,
    /// In a body.
    Body(Framing),
    /// Something that is not HTTP any more.
    Open,
    /// Nothing more is read.
    Shut,
    /// The body that was under way has no end.
    Broken,
}

impl<S> Gate<S> {
    /// Before `stream`, from which a first head is awaited.
    pub(crate) fn new(stream: S, signals: Arc<Signals>) -> Gate<S> {
        let deadline = Box::pin(sleep_until(Instant::now() + HEAD_TIME));
        let (pending, ready) = (BytesMut::new(), BytesMut::new());
        Gate { stream, signals, pending, ready, state: State::Head, deadline, is_timed: true, is_shut: false }
    }

    fn refuse(&mut self, refusal: Refusal) {
        let _ = self.signals.refusal.set(refusal);
        self.state = State::Shut;
        self.pending.clear();
        self.ready.extend_from_slice(b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n");
        self.ready.extend_from_slice(REFUSAL_FIELD.as_bytes());
        self.ready.extend_from_slice(b": 1\r\n\r\n");
    }

    /// Ends in the middle of a body, where there is no place for another request.
    fn give_up(&mut self) {
        let _ = self.signals.refusal.set(Refusal::Broken);
        self.state = State::Broken;
    }

    /// Moves on from the head that is pending, if it is whole.
    fn pass_head(&mut self) {
        // Lines before a request that are empty are no part of it (RFC 9112, 2.2).
        while self.pending.starts_with(b"\r\n") {
            self.pending.advance(2);
        }
        match Head::read(&self.pending) {
            Ok(Head::Partial) if self.pending.len() < HEAD_BYTES => {}
            Ok(Head::Whole { length, .. }) if length > HEAD_BYTES => self.refuse(Refusal::TooLarge),
            Ok(Head::Partial) => self.refuse(Refusal::TooLarge),
            Err(refusal) => self.refuse(refusal),
            Ok(Head::Whole { length, framing }) => {
                self.ready.unsplit(self.pending.split_to(length));
                self.state = State::Body(framing);
                self.is_timed = false;
                self.pass_body();
            }
        }
    }

    /// Moves what is pending of a body, and goes on to the next head.
    fn pass_body(&mut self) {
        let State::Body(framing) = &mut self.state else { return };
        match framing.take(&self.pending) {
            Err(()) => self.give_up(),
            Ok((count, is_over)) => {
                self.ready.unsplit(self.pending.split_to(count));
                if is_over {
                    self.state = State::Head;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.is_empty() {
            self.pass_head();
            // After a request without a body comes a head again.
            if !self.ready.is_empty() || !matches!(self.state, State::Head) {
                return Poll::Ready(Ok(()));
            }
        }
        let mut space = [0; READ];
        let mut read = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read)? {
            Poll::Ready(()) if read.filled().is_empty() => {
                if self.pending.is_empty() {
                    self.state = State::Shut;
                } else {
                    self.refuse(Refusal::Malformed("it ends in the middle"));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(()) => {
                self.pending.extend_from_slice(read.filled());
                if !self.is_timed {
                    self.is_timed = true;
                    self.deadline.as_mut().reset(Instant::now() + HEAD_TIME);
                }
                self.pass_head();
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                if self.is_timed {
                    ready!(self.deadline.as_mut().poll(cx));
                    if self.pending.is_empty() {
                        self.state = State::Shut;
                    } else {
                        self.refuse(Refusal::TooSlow);
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let State::Body(framing) = &mut self.state else { return Poll::Ready(Ok(())) };
        let Ok((count, is_over)) = framing.take(&buffer.filled()[before..]) else {
            buffer.set_filled(before);
            self.give_up();
            return Poll::Ready(Err(broken()));
        };
        self.pending.extend_from_slice(&buffer.filled()[before + count..]);
        buffer.set_filled(before + count);
        if is_over {
            self.state = State::Head;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads on, for nothing: to close a socket that something is left in resets it, and the answer would be lost (RFC 9112, 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut space = [0; READ];
            let mut read = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
            if Instant::now() >= self.deadline.deadline() {
                break;
            }
        }
        self.deadline.as_mut().poll(cx).map(Ok)
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the chunks of a body are malformed")
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if gate.signals.is_upgraded() && !matches!(gate.state, State::Open) {
            gate.state = State::Open;
            gate.ready.unsplit(gate.pending.split());
        }
        loop {
            if !gate.ready.is_empty() {
                let count = gate.ready.len().min(buffer.remaining());
                buffer.put_slice(&gate.ready[..count]);
                gate.ready.advance(count);
                return Poll::Ready(Ok(()));
            }
            match gate.state {
                State::Head => ready!(gate.poll_head(cx))?,
                State::Body(_) => return gate.poll_body(cx, buffer),
                State::Open => return Pin::new(&mut gate.stream).poll_read(cx, buffer),
                // An end of the stream would take the answer to the refusal with it.
                State::Shut if gate.signals.refusal().is_some() => return Poll::Pending,
                State::Shut => return Poll::Ready(Ok(())),
                State::Broken => return Poll::Ready(Err(broken())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if !gate.is_shut {
            ready!(Pin::new(&mut gate.stream).poll_shutdown(cx))?;
            gate.is_shut = true;
            gate.deadline.as_mut().reset(Instant::now() + LINGER_TIME);
        }
        if gate.signals.lingers.load(Ordering::Relaxed) { gate.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
