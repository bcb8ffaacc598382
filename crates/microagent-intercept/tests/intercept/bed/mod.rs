//! What stands around the interceptor in tests.

mod ca;
mod client;
mod front;
mod server;

pub(crate) use ca::{Ca, Kind};
pub(crate) use client::{Got, raw, text};
pub(crate) use front::{BOTH, Bed, open};
pub(crate) use server::{Seen, Server};

use bytes::Bytes;
use std::time::Duration;

/// More than any of it takes on a busy machine, and less than anybody waits for a test that hangs.
pub(crate) const DEADLINE: Duration = Duration::from_mins(5);

/// `future`, which has to come to its end.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes longer than anything here should")
}

/// `count` bytes from `at` on of an endless text.
pub(crate) fn pattern(at: usize, count: usize) -> Bytes {
    /// A prime, so that a piece which is lost or moved shows.
    const PERIOD: usize = 65521;
    let period: Vec<u8> = (0..PERIOD).map(|at| (at * 31 % 251) as u8).collect();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let from = (at + all.len()) % PERIOD;
        all.extend_from_slice(&period[from..PERIOD.min(from + count - all.len())]);
    }
    all.into()
}
