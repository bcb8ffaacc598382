//! Bytes from the host that a pipe has not taken yet.

use microagent_protocol::flow::INITIAL_CREDIT;
use microagent_protocol::wipe;
use std::collections::VecDeque;

/// A queue of bytes. One of a secret leaves nothing of it in memory, wherever it ends.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: VecDeque<u8>,
    secret: bool,
}

impl Pending {
    /// A queue for a secret. It has room for all that may be on its way, because growing would leave bytes behind where it was before.
    pub(crate) fn secret() -> Pending {
        Pending { bytes: VecDeque::with_capacity(INITIAL_CREDIT as usize), secret: true }
    }

    /// Whether it is for a secret.
    pub(crate) fn is_secret(&self) -> bool {
        self.secret
    }

    /// Adds bytes at the end.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<u8> {
        self.bytes.back().copied()
    }

    /// The first ones, as many as lie together.
    pub(crate) fn first(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// Removes the first `count` of [`Pending::first`], and returns the last of them.
    pub(crate) fn remove(&mut self, count: usize) -> Option<u8> {
        let last = count.checked_sub(1).and_then(|last| self.bytes.get(last)).copied();
        if self.secret {
            wipe(&mut self.bytes.as_mut_slices().0[..count]);
        }
        self.bytes.drain(..count);
        last
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        *self = Pending { bytes: VecDeque::new(), secret: self.secret };
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.secret {
            let (one, other) = self.bytes.as_mut_slices();
            wipe(one);
            wipe(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "to see what is left in memory")]
    fn nothing_of_a_secret_stays_where_it_was_queued() {
        let mut pending = Pending::secret();
        let start = pending.bytes.make_contiguous().as_ptr();
        pending.extend(b"a secret");
        assert_eq!(pending.remove(2), Some(b' '));
        assert_eq!((pending.first(), pending.last(), pending.len()), (&b"secret"[..], Some(b't'), 6));
        assert_eq!(pending.bytes.as_slices().0.as_ptr(), start.wrapping_add(2), "it was not moved");
        // SAFETY: within the queue's storage, and written to.
        let left = unsafe { std::slice::from_raw_parts(start, 2) };
        assert_eq!(left, [0, 0]);
        pending.remove(6);
        // SAFETY: as above.
        let left = unsafe { std::slice::from_raw_parts(start, 8) };
        assert_eq!(left, [0; 8]);
    }
}
