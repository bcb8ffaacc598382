//! Ctrl-C and its relatives.

use crate::error::Error;
use crate::terminal;
use microagent::{Connection, Recipients};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Signals after which there is no more waiting for an orderly end: the first asks, the second insists.
const PATIENCE: u32 = 2;

/// Hears the signals that ask this process to end, from [`Signals::watch`] on.
pub(crate) struct Signals {
    first: Arc<AtomicI32>,
}

impl Signals {
    /// Calls `stop` at each signal, on a thread of its own. The third one ends the process as if nobody had been listening.
    pub(crate) fn watch(stop: impl Fn() + Send + 'static) -> Result<Signals, Error> {
        let mut incoming = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(Error::system("listen for signals"))?;
        let first = Arc::new(AtomicI32::new(0));
        let heard = Arc::clone(&first);
        std::thread::spawn(move || {
            for (count, signal) in (0..).zip(incoming.forever()) {
                if count >= PATIENCE {
                    // Fails only for signals that cannot be handled, which these can.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                let _ = heard.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
                stop();
            }
        });
        Ok(Signals { first })
    }

    /// Fails if there was one.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.first.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Error::Interrupted { signal }),
        }
    }

    /// What `outcome` means in the light of the signals so far: a verb that failed after one was interrupted, whatever it says.
    pub(crate) fn judge<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        match (outcome, self.first.load(Ordering::Relaxed)) {
            (Err(_), signal @ 1..) => Err(Error::Interrupted { signal }),
            (outcome, _) => outcome,
        }
    }
}

/// Signals that a command in a workspace gets as if it ran here. Job control is the shell's, so the rest is not passed on.
const FORWARDED: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1];

/// Passes signals on to a process, and the size of our terminal, until it is dropped.
pub(crate) struct Forwarding {
    handle: signal_hook::iterator::Handle,
}

impl Forwarding {
    /// Begins, on a thread of its own. With a terminal, keys that mean signals are the command's already.
    pub(crate) fn start(connection: &Arc<Connection>, process: &str, terminal: bool) -> Result<Forwarding, Error> {
        let wanted: Vec<i32> = FORWARDED.into_iter().chain(terminal.then_some(SIGWINCH)).collect();
        let mut incoming = signal_hook::iterator::Signals::new(wanted).map_err(Error::system("listen for signals"))?;
        let handle = incoming.handle();
        let (connection, process) = (Arc::clone(connection), process.to_owned());
        std::thread::spawn(move || {
            for signal in incoming.forever() {
                let process = connection.process(process.as_str());
                // A process that has ended needs neither.
                let _ = match (signal, terminal::size()) {
                    (SIGWINCH, Some(size)) => process.resize(size),
                    (SIGWINCH, None) => Ok(()),
                    (signal, _) => process.signal(signal, Recipients::Group),
                };
            }
        });
        Ok(Forwarding { handle })
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.handle.close();
    }
}
