//! Stopping a run from outside.

use microagent_image::Cancellation;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Listener = Box<dyn Fn(u32) + Send>;

/// A handle that stops whatever run was given a clone of it.
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
    listener: Option<Listener>,
}

impl Interrupt {
    /// A handle that has not been used.
    pub fn new() -> Interrupt {
        Interrupt::default()
    }

    /// Asks for the stop; asking again asks harder.
    pub fn stop(&self) {
        self.pull.cancel();
        let mut shared = self.lock();
        shared.count += 1;
        if let Some(listener) = &shared.listener {
            listener(shared.count);
        }
    }

    /// Whether the stop was asked for.
    pub fn is_stopped(&self) -> bool {
        self.lock().count > 0
    }

    /// The part that ends a pull or a build.
    pub(crate) fn cancellation(&self) -> &Cancellation {
        &self.pull
    }

    /// Calls `listener` with the number of stops so far, at every stop from now on and at once if there were any. There is one listener;
    /// it is gone when the guard is.
    pub(crate) fn listen(&self, listener: impl Fn(u32) + Send + 'static) -> Listening {
        let mut shared = self.lock();
        if shared.count > 0 {
            listener(shared.count);
        }
        shared.listener = Some(Box::new(listener));
        Listening(self.clone())
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
pub(crate) struct Listening(Interrupt);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.lock().listener = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_listener_hears_stops_before_and_after_it_came() {
        let interrupt = Interrupt::new();
        interrupt.stop();
        let (sender, heard) = mpsc::channel();
        let listening = interrupt.listen(move |count| sender.send(count).unwrap());
        interrupt.stop();
        drop(listening);
        interrupt.stop();
        assert_eq!(heard.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
