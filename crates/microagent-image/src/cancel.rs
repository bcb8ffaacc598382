//! Stopping a pull, a build or a wait from another thread.

use std::ops::ControlFlow;

use tokio::sync::watch;

use crate::Error;

/// A switch that stops whatever was given a clone of it. Once on, it stays on.
///
/// Waiting for the network or for a lock ends at once; work on data ends at the next block.
#[derive(Clone, Debug)]
pub struct Cancellation {
    switch: watch::Sender<bool>,
    parent: Option<Box<Cancellation>>,
}

impl Default for Cancellation {
    fn default() -> Cancellation {
        Cancellation::new()
    }
}

impl Cancellation {
    /// A switch that is off.
    pub fn new() -> Cancellation {
        Cancellation { switch: watch::Sender::new(false), parent: None }
    }

    /// Turns the switch on. Not for use inside a signal handler proper: it takes a lock.
    pub fn cancel(&self) {
        self.switch.send_replace(true);
    }

    /// Whether the switch is on.
    pub fn is_cancelled(&self) -> bool {
        *self.switch.borrow() || self.parent.as_ref().is_some_and(|parent| parent.is_cancelled())
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// What to answer a writer that asks whether to go on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// A switch of its own that is also on whenever this one is.
    pub(crate) fn child(&self) -> Cancellation {
        Cancellation { switch: watch::Sender::new(false), parent: Some(Box::new(self.clone())) }
    }

    /// Completes when the switch is turned on.
    pub(crate) async fn cancelled(&self) {
        let own = turned_on(&self.switch);
        match &self.parent {
            Some(parent) => tokio::select! {
                () = own => {}
                () = turned_on(&parent.switch) => {}
            },
            None => own.await,
        }
    }
}

async fn turned_on(switch: &watch::Sender<bool>) {
    let mut receiver = switch.subscribe();
    // The sender outlives the receiver, so the only way this ends is the value.
    let _ = receiver.wait_for(|cancelled| *cancelled).await;
}
