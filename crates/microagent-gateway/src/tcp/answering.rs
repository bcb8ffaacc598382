//! Questions to our resolver in a connection (RFC 7766).

use super::flow::{Ends, PARTING, Stage, Step};
use super::guest::Guest;
use crate::dns::Transport;
use crate::edge::Edge;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes of the length before each question and answer (RFC 1035, 4.2.2).
const PREFIX: usize = 2;
/// Longest question.
const MAX_QUESTION: usize = 4 << 10;
/// Most questions of one connection that are open at once. The next are read when an answer is there.
const MAX_OPEN: usize = 16;
/// How long a connection may be without a question.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to our resolver.
pub(crate) struct Answering {
    open: usize,
    answers: VecDeque<u8>,
    until: Instant,
}

impl Answering {
    pub(crate) fn new(now: Instant) -> Answering {
        Answering { open: 0, answers: VecDeque::new(), until: now + PATIENCE }
    }

    /// An answer came.
    pub(crate) fn answer(&mut self, answer: &[u8]) {
        self.open = self.open.saturating_sub(1);
        self.put(answer);
    }

    fn put(&mut self, answer: &[u8]) {
        let Ok(length) = u16::try_from(answer.len()) else { return };
        self.answers.extend(length.to_be_bytes());
        self.answers.extend(answer);
    }

    pub(crate) fn advance(&mut self, ends: &mut Ends, edge: &mut Edge) -> Step {
        let Some(guest) = &mut ends.guest else { return Step::Gone };
        loop {
            if self.open < MAX_OPEN && self.answers.is_empty() {
                let Ok(question) = question(guest) else { return ends.abort(edge) };
                if let Some(question) = question {
                    self.until = edge.now + PATIENCE;
                    match edge.dns.ask(&question, Transport::Tcp, ends.id << 1 | 1) {
                        Some(answer) => self.put(&answer),
                        None => self.open += 1,
                    }
                    continue;
                }
            }
            let count = guest.give(|place| {
                let count = place.len().min(self.answers.len());
                for (to, from) in place.iter_mut().zip(self.answers.drain(..count)) {
                    *to = from;
                }
                (count, count)
            });
            if count.unwrap_or(0) == 0 {
                break;
            }
        }
        if self.open == 0 && self.answers.is_empty() && (guest.has_said_all() || edge.now >= self.until) {
            guest.close();
            guest.skip(usize::MAX);
            return Step::To(Stage::Parting(edge.now + PARTING));
        }
        Step::Wait((self.open == 0).then_some(self.until))
    }
}

/// The first question of what the guest has said: none while it is not whole, an error if it is too long.
fn question(guest: &mut Guest) -> Result<Option<Vec<u8>>, TooLong> {
    let mut place = [0; PREFIX + MAX_QUESTION];
    let count = guest.copy(&mut place);
    let Some((prefix, rest)) = place[..count].split_first_chunk::<PREFIX>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*prefix));
    if length > MAX_QUESTION {
        return Err(TooLong);
    }
    let Some(question) = rest.get(..length) else { return Ok(None) };
    guest.skip(PREFIX + length);
    Ok(Some(question.to_vec()))
}

struct TooLong;
