//! One line for each phase, for logs and people who want to scroll back.

use super::Display;
use std::io::Write;

pub(super) struct Plain;

impl Display for Plain {
    fn phase(&mut self, text: &str) {
        // Progress is dispensable; the work goes on without it.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn bytes(&mut self, _done: u64, _total: Option<u64>) {}

    fn end(&mut self) {}
}
