//! Waiting for a workspace.

use crate::{Client, Error};
use microagent_state::{Name, Phase};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What [`Client::wait`] waited for.
#[derive(Clone, Debug, Serialize)]
pub struct Waited {
    /// Name of the workspace.
    pub workspace: Name,
    /// Where it is in its life.
    pub state: Phase,
    /// It is at rest, and came there as it should.
    pub ok: bool,
    /// The time was up before it came to rest.
    pub timed_out: bool,
}

impl Client {
    /// Waits until nobody runs the workspace any more, at most for `timeout`.
    pub fn wait(&self, name: &Name, timeout: Option<Duration>) -> Result<Waited, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let workspace = self.state().find(name)?;
        let watch = workspace.watch()?;
        let (state, timed_out) = loop {
            // Its end is recorded before it is told in the events, and both before the lease is let go: who waits wants all three.
            let held = workspace.is_held()?;
            let state = workspace.status()?.phase;
            if !state.is_live() && !held {
                break (state, false);
            }
            if !watch.changed(deadline)? {
                break (state, true);
            }
        };
        let ok = matches!(state, Phase::Prepared | Phase::Halted | Phase::Stopped);
        Ok(Waited { workspace: name.clone(), state, ok, timed_out })
    }
}
