//! Bytes on their way from one conversation to another.

use microagent_machine::channel::{Input, Output};
use std::io::Write;

/// Passes everything on until it ends, or nobody takes it any more. Either way both ends are closed.
pub(super) fn copy(mut from: Output, mut to: Input) {
    while let Ok(Some(chunk)) = from.next_chunk() {
        if to.write_all(&chunk).is_err() {
            return;
        }
    }
}
