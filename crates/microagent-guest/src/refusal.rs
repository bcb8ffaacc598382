//! Saying no.

use microagent_protocol::{Refusal, RefusalCode};
use std::fmt::Display;

/// Most characters of a value quoted in a message. Values come from requests, which may be megabytes.
const MAX_QUOTED: usize = 256;

/// A refusal with its reason.
pub(crate) fn refusal(code: RefusalCode, message: impl Display) -> Refusal {
    Refusal { code, message: message.to_string() }
}

/// The beginning of a value, for a message.
pub(crate) fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("`{}…`", &value[..end]),
        None => format!("`{value}`"),
    }
}
