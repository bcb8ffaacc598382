//! Several things at a time, and the first failure stops them all.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Cancellation, Error};

/// Blobs that travel at the same time. Registries serve a handful of connections per client well.
const AT_ONCE: usize = 4;

/// Does `work` for every item, beginning with the first, and returns what came of each in the order in which they were
/// done. The switch `work` is given is turned on when one of the others fails.
pub(super) fn for_each<T: Send, R: Send>(
    items: Vec<T>,
    cancellation: &Cancellation,
    work: impl Fn(T, &Cancellation) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let threads = AT_ONCE.min(items.len());
    let queue = Mutex::new(items.into_iter());
    let abort = cancellation.child();
    let outcome = Mutex::new(Ok(Vec::new()));
    let worker = || {
        while let Some(item) = { queue.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            let done = work(item, &abort);
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match (done, &mut *outcome) {
                (Ok(done), Ok(all)) => all.push(done),
                (Err(error), Ok(_)) => {
                    *outcome = Err(error);
                    abort.cancel();
                }
                (_, Err(_)) => {}
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}
