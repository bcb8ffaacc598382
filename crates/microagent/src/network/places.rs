//! A bound on what a guest has the host do at once.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;

/// So many things can be done at once. Copies are cheap, and share them.
#[derive(Clone)]
pub(super) struct Places(Arc<Free>);

/// One of them, given back when it is dropped.
pub(super) struct Place(Arc<Free>);

struct Free {
    count: Mutex<usize>,
    given_back: Condvar,
}

impl Places {
    pub(super) fn new(count: usize) -> Places {
        Places(Arc::new(Free { count: Mutex::new(count), given_back: Condvar::new() }))
    }

    /// Waits for a place.
    pub(super) fn take(&self) -> Place {
        let count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count =
            self.0.given_back.wait_while(count, |count| *count == 0).unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        Place(Arc::clone(&self.0))
    }

    /// A place, if there is one now.
    pub(super) fn try_take(&self) -> Option<Place> {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.checked_sub(1)?;
        Some(Place(Arc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}

/// Does `work` on a thread of its own. Where there can be no more of them it is not done, and what it holds is dropped: a guest that
/// wants too much does not end the process that runs it.
pub(super) fn spawn(work: impl FnOnce() + Send + 'static) {
    let _ = Builder::new().spawn(work);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_can_be_taken_again_when_it_was_given_back() {
        let places = Places::new(2);
        let (one, _two) = (places.take(), places.try_take().unwrap());
        assert!(places.clone().try_take().is_none());
        drop(one);
        drop(places.take());
        assert!(places.try_take().is_some());
    }

    #[test]
    fn whoever_waits_for_a_place_gets_the_next_one() {
        let places = Places::new(1);
        let one = places.take();
        let waits = std::thread::spawn({
            let places = places.clone();
            move || drop(places.take())
        });
        drop(one);
        waits.join().unwrap();
    }
}
