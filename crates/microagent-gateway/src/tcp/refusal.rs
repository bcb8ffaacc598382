//! Telling the guest why it gets no further, in words where the protocol has a place for them.

use super::flow::{Ends, PARTING, Stage, Step};
use crate::edge::Edge;
use crate::opening::{Sniffed, sniff};
use microagent_egress::{Reason, is_name};
use std::time::{Duration, Instant};

/// How long the guest has to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fatal alert, `access_denied`, in a record of its own (RFC 8446, 5.1 and 6).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What the guest speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tongue {
    Tls,
    Http,
    Other,
}

/// A connection that goes nowhere.
pub(crate) struct Refusal {
    reason: Reason,
    /// What is still to be said; nothing while the guest has not asked.
    answer: Option<Vec<u8>>,
    until: Instant,
}

impl Refusal {
    /// The answer, in that `tongue`, to a connection to `host`.
    pub(crate) fn new(now: Instant, reason: Reason, host: &str, tongue: Tongue) -> Refusal {
        let answer = match tongue {
            Tongue::Tls => ALERT.to_vec(),
            Tongue::Http => page(reason, host),
            Tongue::Other => Vec::new(),
        };
        Refusal { reason, answer: Some(answer), until: now + PATIENCE }
    }

    /// One for who has yet to ask: by HTTP, since that is what the port is for.
    pub(crate) fn to_be_asked(now: Instant, reason: Reason) -> Refusal {
        Refusal { reason, answer: None, until: now + PATIENCE }
    }

    pub(crate) fn advance(&mut self, ends: &mut Ends, edge: &Edge) -> Step {
        let Some(guest) = &mut ends.guest else { return Step::Gone };
        if edge.now >= self.until || guest.has_finished() && self.answer.is_none() {
            return ends.abort(edge);
        }
        if self.answer.is_none() {
            match sniff(guest.said()) {
                Sniffed::More => return Step::Wait(Some(self.until)),
                Sniffed::Http { host } => {
                    let host = host.filter(|host| is_name(host)).or(ends.host.take());
                    self.answer = Some(page(self.reason, &host.unwrap_or_else(|| ends.to.ip().to_string())));
                }
                Sniffed::Tls { .. } | Sniffed::Other => return ends.abort(edge),
            }
        }
        guest.skip(usize::MAX);
        if let Some(answer) = &mut self.answer {
            guest.give(|place| {
                let count = place.len().min(answer.len());
                place[..count].copy_from_slice(&answer[..count]);
                answer.drain(..count);
                (count, ())
            });
            if answer.is_empty() {
                guest.close();
            }
        }
        if guest.has_finished() && guest.has_all() {
            return Step::To(Stage::Parting(edge.now + PARTING));
        }
        Step::Wait(Some(self.until))
    }
}

fn page(reason: Reason, host: &str) -> Vec<u8> {
    let text = format!("microagent: egress to {host} denied: {reason} ({}). {}\n", reason.name(), reason.hint());
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    [head.into_bytes(), text.into_bytes()].concat()
}
