//! The host end of the conversation with a guest agent.
//!
//! [`Channel`] owns the byte stream to the guest. A thread of its own reads it, so that no caller has to be waiting for
//! the guest's bytes to be taken in; callers block on what they are interested in:
//!
//! - [`Channel::hello`] until the guest is up, [`Channel::epoch_ns`] until it has said what time it is,
//! - [`Call::wait`] until a request is answered,
//! - [`Output`] (a [`Read`](std::io::Read)) for bytes the guest sends, [`Input`] (a [`Write`]) for bytes it takes,
//! - [`Channel::closed`] until the guest has gone away,
//! - [`Channel::hold`] until the guest stands still, and then everybody who wants to send until it goes on.
//!
//! When the guest goes away every one of them returns at once. Nothing a guest sends can block the reading thread or make it hold
//! more than one credit window per stream that the host opened; a guest that breaks the protocol is cut off.
//!
//! The supervisor of a workspace speaks the same way with its clients: they hold a [`Channel`] to it, and it serves each of them as a
//! [`Peer`].

mod call;
mod clock;
mod hold;
mod peer;
mod reader;
mod stream;

pub use call::Call;
pub use hold::Held;
pub use peer::{Peer, StreamTaken};
pub use stream::{HangUp, Input, Output};

use crate::Error;
use call::CallState;
use microagent_protocol::frame::header;
use microagent_protocol::{Hello, Kind, PROTOCOL_VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stream::{InputState, OutputState};

/// How long a guest may leave our bytes untaken before it counts as gone. The agent takes them in whatever else it does, so only a guest
/// whose processors do not run at all gets near this; it keeps a stuck guest from blocking a caller for ever.
const STALL_LIMIT: Duration = Duration::from_mins(1);

/// A conversation with one guest. Cloning gives another handle to the same conversation.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

/// Why a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The byte stream ended: the guest or its engine is gone.
    Lost,
    /// The guest sent what the protocol does not allow.
    Violation(String),
}

impl Closed {
    fn error(&self) -> Error {
        match self {
            Closed::Lost => Error::GuestLost,
            Closed::Violation(what) => Error::ProtocolViolation { what: what.clone() },
        }
    }
}

struct Shared {
    writer: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The first word of the other end, as it came.
    hello: Option<Vec<u8>>,
    closed: Option<Closed>,
    /// Whether the guest stands still, or is to: then only whoever has it do so may send.
    held: bool,
    last_id: u32,
    calls: HashMap<u32, CallState>,
    inputs: HashMap<u32, InputState>,
    outputs: HashMap<u32, OutputState>,
}

impl Channel {
    /// Starts the conversation over `stream`.
    pub fn open(stream: UnixStream) -> Result<Channel, Error> {
        Channel::open_with(stream, STALL_LIMIT)
    }

    fn open_with(stream: UnixStream, stall_limit: Duration) -> Result<Channel, Error> {
        stream.set_write_timeout(Some(stall_limit)).map_err(|source| Error::Channel { source })?;
        let reading = stream.try_clone().map_err(|source| Error::Channel { source })?;
        let shared = Arc::new(Shared { writer: Mutex::new(stream), state: Mutex::default(), changed: Condvar::new() });
        let reader = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("guest-channel".to_owned())
            .spawn(move || reader::run(&reader, reading, None))
            .map_err(|source| Error::Channel { source })?;
        Ok(Channel { shared })
    }

    /// Waits for the first word of the other end, or `deadline`.
    pub fn greeting<T: DeserializeOwned>(&self, deadline: Instant) -> Result<T, Error> {
        let hello = self.shared.wait_until(Some(deadline), |state| state.hello.clone())?;
        self.shared.parse(&hello)
    }

    /// Waits until the guest is up, or `deadline`, and checks that it speaks our version of the protocol.
    pub fn hello(&self, deadline: Instant) -> Result<Hello, Error> {
        let hello: Hello = self.greeting(deadline)?;
        if hello.protocol != PROTOCOL_VERSION {
            return Err(Error::ProtocolVersion { ours: PROTOCOL_VERSION, guests: hello.protocol });
        }
        Ok(hello)
    }

    /// What the guest said when it was up, if it is.
    pub(crate) fn said_hello(&self) -> Option<Hello> {
        let hello = self.shared.lock().hello.clone()?;
        self.shared.parse(&hello).ok()
    }

    /// Goes on with a guest that said `hello` before it was frozen, and will not say it again.
    pub(crate) fn greeted(&self, hello: &Hello) {
        self.shared.lock().hello = Some(serde_json::to_vec(hello).expect("a hello has only string keys"));
    }

    /// Waits until the conversation is over.
    pub fn closed(&self) {
        // It ends with an error, because nothing else is waited for.
        let _ = self.shared.wait_until(None, |_| None::<()>);
    }

    /// Ends the conversation.
    pub fn close(&self) {
        self.shared.hang_up(Closed::Lost);
    }

    /// Sends a request. The answer is waited for on the [`Call`].
    pub fn call(&self, request: &impl Serialize) -> Result<Call, Error> {
        self.shared.call(request, false)
    }

    /// A call that no request of ours begins: the guest answers it because a [`Wake`](microagent_protocol::Wake) gave its id to a command.
    pub fn reserve_call(&self) -> Call {
        let mut state = self.shared.lock();
        let id = state.new_id();
        state.calls.insert(id, CallState::Waiting);
        Call::new(Arc::clone(&self.shared), id)
    }

    /// Whether a call of that id has not been answered.
    pub fn awaits(&self, call: u32) -> bool {
        matches!(self.shared.lock().calls.get(&call), Some(CallState::Waiting))
    }

    /// A new stream from the guest to the host; its id goes into a request.
    pub fn output(&self) -> Output {
        let mut state = self.shared.lock();
        let id = state.new_id();
        state.outputs.insert(id, OutputState::default());
        Output::new(Arc::clone(&self.shared), id)
    }

    /// A new stream from the host to the guest; its id goes into a request.
    pub fn input(&self) -> Input {
        let mut state = self.shared.lock();
        let id = state.new_id();
        state.inputs.insert(id, InputState::default());
        Input::new(Arc::clone(&self.shared), id)
    }
}

impl State {
    fn new_id(&mut self) -> u32 {
        // They come round again after 2^32: a machine may serve connections for months. Those in use are a few thousand at most.
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            let is_used =
                self.calls.contains_key(&id) || self.inputs.contains_key(&id) || self.outputs.contains_key(&id);
            if id != 0 && !is_used {
                return id;
            }
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        self.closed.as_ref().map_or(Ok(()), |closed| Err(closed.error()))
    }
}

impl Shared {
    /// The lock is held for bookkeeping only and no code under it panics on what a guest sent, so a poisoned lock means a bug elsewhere
    /// that has been reported already; the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until `ready` gives something, the conversation ends or `deadline` passes. What has arrived is handed out even after the
    /// end.
    fn wait_until<T>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Error> {
        let mut state = self.lock();
        loop {
            if let Some(value) = ready(&mut state) {
                return Ok(value);
            }
            state.check_open()?;
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now()).ok_or(Error::DeadlinePassed)?;
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Sends a request, on behalf of whoever holds the guest still or of anybody else.
    fn call(self: &Arc<Self>, request: &impl Serialize, holds: bool) -> Result<Call, Error> {
        let payload = serde_json::to_vec(request).expect("requests have only string keys");
        if payload.len() > Kind::Call.max_payload() {
            return Err(Error::RequestTooLong { bytes: payload.len(), limit: Kind::Call.max_payload() });
        }
        let id = {
            let mut state = self.lock();
            state.check_open()?;
            let id = state.new_id();
            state.calls.insert(id, CallState::Waiting);
            id
        };
        let call = Call::new(Arc::clone(self), id);
        let writer = if holds { self.writer() } else { self.turn_to_write()? };
        self.write(writer, Kind::Call, id, &payload)?;
        Ok(call)
    }

    /// Sends a frame, when the guest does not stand still.
    fn send(&self, kind: Kind, id: u32, payload: &[u8]) -> Result<(), Error> {
        let writer = self.turn_to_write()?;
        self.write(writer, kind, id, payload)
    }

    fn writer(&self) -> MutexGuard<'_, UnixStream> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until anybody may write. That takes as long as somebody holds the guest still, and is not writing: [`STALL_LIMIT`] does not count.
    fn turn_to_write(&self) -> Result<MutexGuard<'_, UnixStream>, Error> {
        loop {
            self.wait_until(None, |state| (!state.held).then_some(()))?;
            let writer = self.writer();
            // Whoever holds it writes after this, or has done so since.
            if !self.lock().held {
                return Ok(writer);
            }
        }
    }

    fn write(&self, mut writer: MutexGuard<'_, UnixStream>, kind: Kind, id: u32, payload: &[u8]) -> Result<(), Error> {
        let head = header(kind, id, payload.len());
        if write_frame(&mut writer, &head, payload).is_ok() {
            return Ok(());
        }
        // Half a frame may be on its way: nobody can write after it, and nobody should wait for an answer.
        let _ = writer.shutdown(Shutdown::Both);
        drop(writer);
        self.close(Closed::Lost);
        self.lock().check_open()
    }

    /// Ends the conversation from this side.
    fn hang_up(&self, why: Closed) {
        self.close(why);
        // Fails where there is nobody any more to hang up on.
        let _ = self.writer().shutdown(Shutdown::Both);
    }

    /// What the other end said. If that is nothing it may say, the conversation is over.
    fn parse<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(payload).map_err(|error| {
            let violation = Closed::Violation(format!("a message that cannot be read: {error}"));
            self.hang_up(violation.clone());
            violation.error()
        })
    }

    fn close(&self, why: Closed) {
        self.lock().closed.get_or_insert(why);
        self.changed.notify_all();
    }
}

/// Writes a frame without copying its payload. A socket with a time limit is interrupted by any signal, so that is no failure.
fn write_frame(writer: &mut UnixStream, head: &[u8], payload: &[u8]) -> io::Result<()> {
    let sent = loop {
        match writer.write_vectored(&[IoSlice::new(head), IoSlice::new(payload)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => break sent?,
        }
    };
    if sent < head.len() {
        writer.write_all(&head[sent..])?;
    }
    writer.write_all(&payload[sent.saturating_sub(head.len())..])
}
