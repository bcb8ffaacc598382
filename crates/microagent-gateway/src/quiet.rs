//! What is written down once, however often it happens: a guest that tries the same thing a thousand times a second is told no a thousand
//! times, and one line a second says so.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Most that is remembered. What is not is written down once too often.
const MAX: usize = 1024;

/// What has been written down just now.
#[derive(Debug)]
pub(crate) struct Quiet<K> {
    pause: Duration,
    written: HashMap<K, Instant>,
}

impl<K: Eq + Hash> Quiet<K> {
    /// One for which what happens again within `pause` is not new.
    pub(crate) fn new(pause: Duration) -> Quiet<K> {
        Quiet { pause, written: HashMap::new() }
    }

    /// Whether `what` is to be written down at `now`.
    pub(crate) fn is_new(&mut self, what: K, now: Instant) -> bool {
        let pause = self.pause;
        let is_recent = |at: &Instant| now.duration_since(*at) < pause;
        if self.written.len() >= MAX {
            self.written.retain(|_, at| is_recent(at));
        }
        if self.written.get(&what).is_some_and(is_recent) {
            return false;
        }
        if self.written.len() < MAX {
            self.written.insert(what, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    #[test]
    fn the_same_is_told_once_in_a_while_and_a_flood_takes_no_room() {
        let (mut quiet, now) = (Quiet::new(PAUSE), Instant::now());
        assert!(quiet.is_new("a".to_owned(), now));
        assert!(!quiet.is_new("a".to_owned(), now + PAUSE / 2));
        assert!(quiet.is_new("b".to_owned(), now));
        assert!(quiet.is_new("a".to_owned(), now + PAUSE));
        for count in 0..5000 {
            assert!(quiet.is_new(count.to_string(), now + PAUSE / 2));
        }
        assert_eq!(quiet.written.len(), MAX);
        quiet.is_new("later".to_owned(), now + 3 * PAUSE);
        assert_eq!(quiet.written.len(), 1);
    }
}
