//! What is written down once, however often it happens.

use microagent_egress::Reason;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What happens again within this time is not written down again. A program asks twice at once, for both kinds of addresses.
const PAUSE: Duration = Duration::from_secs(1);
/// Most that is remembered.
const MAX: usize = 1024;

/// What has been written down just now.
#[derive(Debug, Default)]
pub(super) struct Quiet(HashMap<(String, Option<Reason>), Instant>);

impl Quiet {
    /// Whether this is to be written down at `now`.
    pub(super) fn is_new(&mut self, host: &str, reason: Option<Reason>, now: Instant) -> bool {
        if self.0.len() >= MAX {
            self.0.retain(|_, at| now.duration_since(*at) < PAUSE);
        }
        let key = (host.to_owned(), reason);
        if self.0.get(&key).is_some_and(|at| now.duration_since(*at) < PAUSE) {
            return false;
        }
        // What is not remembered is written down once too often.
        if self.0.len() < MAX {
            self.0.insert(key, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_in_a_second_and_a_flood_takes_no_room() {
        let (mut quiet, now) = (Quiet::default(), Instant::now());
        assert!(quiet.is_new("a", Some(Reason::NotListed), now));
        assert!(!quiet.is_new("a", Some(Reason::NotListed), now + PAUSE / 2));
        assert!(quiet.is_new("a", None, now) && quiet.is_new("b", Some(Reason::NotListed), now));
        assert!(quiet.is_new("a", Some(Reason::NotListed), now + PAUSE));
        for count in 0..5000 {
            assert!(quiet.is_new(&count.to_string(), None, now));
        }
        assert_eq!(quiet.0.len(), MAX);
        quiet.is_new("later", None, now + 3 * PAUSE);
        assert_eq!(quiet.0.len(), 1);
    }
}
