//! Progress of what takes long, on standard error.
//!
//! The library tells what happens in detail; [`Narrator`] makes phases and byte counts of it, and a [`Display`] shows them: [`Animated`]
//! as one moving line on a terminal, [`Plain`] as one line for each phase. Both end when the guest is up, before it can print anything.

mod animated;
mod narrator;
mod plain;

use crate::settings::ProgressMode;
use animated::Animated;
use microagent::{Event, Progress};
use narrator::{Change, Narrator};
use plain::Plain;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

/// Shows phases and bytes.
trait Display: Send {
    /// A new phase begins.
    fn phase(&mut self, text: &str);
    /// `done` bytes of the current phase's are here.
    fn bytes(&mut self, done: u64, total: Option<u64>);
    /// Nothing is to be seen from now on.
    fn end(&mut self);
}

/// Hears the library and shows what it says.
pub(crate) struct Reporter {
    state: Mutex<State>,
}

struct State {
    narrator: Narrator,
    display: Box<dyn Display>,
}

impl Reporter {
    /// A reporter for `mode`; `None` where nothing is to be shown.
    pub(crate) fn new(mode: ProgressMode) -> Option<Reporter> {
        let display: Box<dyn Display> = match mode {
            ProgressMode::Auto if std::io::stderr().is_terminal() => Box::new(Animated::new()),
            ProgressMode::Plain => Box::new(Plain),
            ProgressMode::Auto | ProgressMode::Off => return None,
        };
        Some(Reporter { state: Mutex::new(State { narrator: Narrator::default(), display }) })
    }
}

impl Progress for Reporter {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { narrator, display } = &mut *state;
        match narrator.hear(&event) {
            None => {}
            Some(Change::Phase(text)) => display.phase(&text),
            Some(Change::Bytes { done, total }) => display.bytes(done, total),
            Some(Change::End) => display.end(),
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).display.end();
    }
}
