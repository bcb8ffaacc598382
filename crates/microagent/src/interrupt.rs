//! Stopping a run from outside.

use microagent_image::Cancellation;
use microagent_machine::engine::Machine;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Listener = Arc<dyn Fn(u32) + Send + Sync>;

/// A handle that stops every run that was given a clone of it.
///
/// The first [`stop`](Interrupt::stop) ends a pull or a build at once, and asks a running command to end, as Ctrl-C does; the second
/// kills the machine.
#[derive(Clone, Default)]
pub struct Interrupt {
    shared: Arc<Mutex<Shared>>,
    pull: Cancellation,
}

#[derive(Default)]
struct Shared {
    count: u32,
    listeners: BTreeMap<u64, Listener>,
    last_listener: u64,
}

impl Interrupt {
    /// A handle that has not been used.
    pub fn new() -> Interrupt {
        Interrupt::default()
    }

    /// Asks for the stop; asking again asks harder.
    pub fn stop(&self) {
        self.pull.cancel();
        let (count, listeners) = {
            let mut shared = self.lock();
            shared.count += 1;
            (shared.count, shared.listeners.values().cloned().collect::<Vec<_>>())
        };
        // Unlocked: a listener that takes its time must not hold up the next stop.
        for listener in listeners {
            listener(count);
        }
    }

    /// Whether the stop was asked for.
    pub fn is_stopped(&self) -> bool {
        self.lock().count > 0
    }

    /// The part that ends a pull or a build.
    pub fn cancellation(&self) -> &Cancellation {
        &self.pull
    }

    /// Calls `listener` with the number of stops so far, at every stop from now on and at once if there were any, until the guard is
    /// dropped.
    pub(crate) fn listen(&self, listener: impl Fn(u32) + Send + Sync + 'static) -> Listening {
        let listener: Listener = Arc::new(listener);
        let (count, id) = {
            let mut shared = self.lock();
            shared.last_listener += 1;
            let id = shared.last_listener;
            shared.listeners.insert(id, Arc::clone(&listener));
            (shared.count, id)
        };
        if count > 0 {
            listener(count);
        }
        Listening { interrupt: self.clone(), id }
    }

    /// Kills a machine that is not up yet when it is interrupted.
    pub(crate) fn kills(&self, machine: &Machine) -> Listening {
        let killer = machine.killer();
        self.listen(move |_| killer.kill())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupt").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

/// Keeps a listener in place.
pub(crate) struct Listening {
    interrupt: Interrupt,
    id: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.interrupt.lock().listeners.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn every_listener_hears_stops_before_and_after_it_came() {
        let interrupt = Interrupt::new();
        interrupt.stop();
        let (sender, heard) = mpsc::channel();
        let other = sender.clone();
        let first = interrupt.listen(move |count| sender.send(("first", count)).unwrap());
        let second = interrupt.listen(move |count| other.send(("second", count)).unwrap());
        interrupt.stop();
        drop(first);
        interrupt.stop();
        drop(second);
        interrupt.stop();
        let heard: Vec<_> = heard.iter().collect();
        assert_eq!(heard, [("first", 1), ("second", 1), ("first", 2), ("second", 2), ("second", 3)]);
    }
}
