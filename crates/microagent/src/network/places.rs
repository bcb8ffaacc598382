//! A bound on what a guest has the host do at once.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

/// So many things can be done at once; whoever wants to do another waits.
pub(super) struct Places {
    free: SyncSender<()>,
    taken: Receiver<()>,
}

/// One of them, given back when it is dropped.
pub(super) struct Place(SyncSender<()>);

impl Places {
    pub(super) fn new(count: usize) -> Places {
        let (free, taken) = sync_channel(count);
        (0..count).for_each(|_| free.send(()).expect("there is room for all"));
        Places { free, taken }
    }

    /// Waits for a place.
    pub(super) fn take(&self) -> Place {
        self.taken.recv().expect("a sender is held here");
        Place(self.free.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody waits any more.
        let _ = self.0.send(());
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
        let (one, _two) = (places.take(), places.take());
        assert!(places.taken.try_recv().is_err());
        drop(one);
        places.take();
    }
}
