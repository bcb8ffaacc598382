//! A request on its way, and its answer.

use super::Shared;
use crate::Error;
use microagent_protocol::{Refusal, Reply};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Instant;

/// Most characters of a guest's message that are passed on.
const MAX_MESSAGE_CHARS: usize = 1000;

#[derive(Debug)]
pub(super) enum CallState {
    Waiting,
    Answered(Vec<u8>),
}

/// A request that was sent. Dropping it gives up the answer, not the request.
pub struct Call {
    shared: Arc<Shared>,
    id: u32,
}

impl Call {
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> Call {
        Call { shared, id }
    }

    /// The id by which other requests can refer to this one.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the guest's answer, at most until `deadline`. A [`Reply::Refused`] is an error.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<Reply, Error> {
        match self.answer(deadline)? {
            Reply::Refused(refusal) => Err(Error::Refused(printable(&refusal))),
            reply => Ok(reply),
        }
    }

    /// Waits for the answer, whatever its shape, at most until `deadline`.
    pub fn answer<T: DeserializeOwned>(&self, deadline: Option<Instant>) -> Result<T, Error> {
        let payload = self.shared.wait_until(deadline, |state| match state.calls.get_mut(&self.id) {
            Some(slot @ CallState::Answered(_)) => match std::mem::replace(slot, CallState::Waiting) {
                CallState::Answered(payload) => Some(payload),
                CallState::Waiting => None,
            },
            _ => None,
        })?;
        self.shared.parse(&payload)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shared.lock().calls.remove(&self.id);
    }
}

/// The message is the guest's, and ends up on a terminal: one line, of a bounded length, without control characters.
fn printable(refusal: &Refusal) -> Refusal {
    let message = refusal.message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect();
    Refusal { code: refusal.code, message }
}
