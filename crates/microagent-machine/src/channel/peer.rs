//! The other side of such a conversation: calls come in, and are answered.

use super::stream::{InputState, OutputState};
use super::{Closed, Input, Output, Shared, reader};
use crate::Error;
use microagent_protocol::Kind;
use serde::Serialize;
use std::collections::hash_map::Entry;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};

/// Somebody who asks things of this process. Cloning gives another handle to the same conversation.
///
/// Ids are the asker's to hand out: those of its calls, and those of the streams that its calls name.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
}

/// The peer named one stream twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {0} is in use")]
pub struct StreamTaken(u32);

impl Peer {
    /// Greets whoever is at the other end of `stream`. A peer may leave our bytes untaken for as long as it likes, as one that is stopped
    /// does: it holds up nobody but itself.
    pub fn greet(stream: UnixStream, greeting: &impl Serialize) -> Result<Peer, Error> {
        let shared = Shared { writer: Mutex::new(stream), state: Mutex::default(), changed: Condvar::new() };
        let peer = Peer { shared: Arc::new(shared) };
        peer.send(Kind::Hello, 0, greeting)?;
        Ok(peer)
    }

    /// Takes in what the peer asks until it leaves. `on_call` is given the id of each call and what it asks; it opens the streams that the
    /// call names, and does not wait for anything: nothing else is taken in meanwhile.
    pub fn serve(&self, mut on_call: impl FnMut(u32, &[u8])) -> Result<(), Error> {
        let writer = self.shared.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reading = writer.try_clone().map_err(|source| Error::Channel { source })?;
        drop(writer);
        reader::run(&self.shared, reading, Some(&mut on_call));
        Ok(())
    }

    /// The stream `id` from the peer to us.
    pub fn output(&self, id: u32) -> Result<Output, StreamTaken> {
        match self.shared.lock().outputs.entry(id) {
            Entry::Occupied(_) => Err(StreamTaken(id)),
            Entry::Vacant(slot) => {
                slot.insert(OutputState::default());
                Ok(Output::new(Arc::clone(&self.shared), id))
            }
        }
    }

    /// The stream `id` from us to the peer.
    pub fn input(&self, id: u32) -> Result<Input, StreamTaken> {
        match self.shared.lock().inputs.entry(id) {
            Entry::Occupied(_) => Err(StreamTaken(id)),
            Entry::Vacant(slot) => {
                slot.insert(InputState::default());
                Ok(Input::new(Arc::clone(&self.shared), id))
            }
        }
    }

    /// Answers call `call`. False when the peer has left.
    pub fn reply(&self, call: u32, reply: &impl Serialize) -> bool {
        let sent = self.send(Kind::Reply, call, reply);
        if let Err(Error::RequestTooLong { .. }) = sent {
            self.shared.hang_up(Closed::Lost);
        }
        sent.is_ok()
    }

    /// Ends the conversation.
    pub fn close(&self) {
        self.shared.hang_up(Closed::Lost);
    }

    fn send(&self, kind: Kind, id: u32, message: &impl Serialize) -> Result<(), Error> {
        let payload = serde_json::to_vec(message).expect("messages have only string keys");
        if payload.len() > kind.max_payload() {
            return Err(Error::RequestTooLong { bytes: payload.len(), limit: kind.max_payload() });
        }
        self.shared.send(kind, id, &payload)
    }
}
