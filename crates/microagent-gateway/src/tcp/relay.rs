//! Bytes from one end of a connection to the other, both ways, until both have ended.

use super::guest::Guest;
use super::upstream::{Read, Upstream};

/// Bytes so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bytes {
    /// From the guest.
    pub sent: u64,
    /// To it.
    pub received: u64,
}

/// The upstream is broken.
#[derive(Debug)]
pub(crate) struct Broken;

/// Moves what can be moved. That is never more than the buffers of the guest's end hold, so everybody gets a turn.
pub(crate) fn relay(guest: &mut Guest, upstream: &mut Upstream, bytes: &mut Bytes) -> Result<(), Broken> {
    while let Some(count) = guest.take(|said| {
        let count = upstream.write(said);
        (count, count)
    }) && count > 0
    {
        bytes.sent += count as u64;
    }
    if upstream.is_dead() {
        return Err(Broken);
    }
    if guest.has_finished() {
        upstream.shut();
    }
    loop {
        let read = guest.give(|place| {
            let read = upstream.read(place);
            (if let Read::Bytes(count) = read { count } else { 0 }, read)
        });
        match read {
            Some(Read::Bytes(count)) => bytes.received += count as u64,
            Some(Read::End) => guest.close(),
            Some(Read::Reset) => return Err(Broken),
            Some(Read::Later) | None => return Ok(()),
        }
    }
}
