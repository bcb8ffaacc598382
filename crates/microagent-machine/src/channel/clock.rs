//! What the guest's clock says, compared with ours.

use super::{Channel, Shared};
use crate::Error;
use microagent_protocol::{Reply, Request};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How often the guest is asked. Half of a round trip is how wrong an answer can be, and the first one is slow in an emulated guest, which
/// has not done such a thing before.
const ROUNDS: usize = 3;

impl Channel {
    /// The host's clock at the zero of the guest's monotonic clock, in nanoseconds since the Unix epoch, by the quickest of a few answers.
    pub fn epoch_ns(&self, deadline: Instant) -> Result<u64, Error> {
        best_of(|| self.shared.ask_epoch(false, deadline))
    }
}

/// The epoch by the quickest of a few answers.
pub(super) fn best_of(mut ask: impl FnMut() -> Result<(u64, u64), Error>) -> Result<u64, Error> {
    let mut best = (u64::MAX, 0);
    for _ in 0..ROUNDS {
        best = best.min(ask()?);
    }
    Ok(best.1)
}

impl Shared {
    /// How long the answer took, and the epoch by it. `holds` tells whether whoever asks holds the guest still.
    pub(super) fn ask_epoch(self: &Arc<Self>, holds: bool, deadline: Instant) -> Result<(u64, u64), Error> {
        let (asked, asked_ns) = (Instant::now(), now_ns());
        let reply = self.call(&Request::Time, holds)?.wait(Some(deadline))?;
        let took = asked.elapsed().as_nanos() as u64;
        let Reply::Time { monotonic_ns } = reply else {
            return Err(Error::ProtocolViolation {
                what: format!("a question for the time was answered with {reply:?}"),
            });
        };
        Ok((took, (asked_ns + took / 2).saturating_sub(monotonic_ns)))
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
