//! Frames on their way to the host.

use microagent_protocol::frame::{HEADER_LEN, header};
use microagent_protocol::{Frame, Kind};

/// Above this many unsent bytes no more output of commands is taken in. Four of the largest data frames: the port never
/// runs dry, and a reply waits behind at most this much.
pub(crate) const OUTPUT_LIMIT: usize = 256 << 10;

/// Above this many unsent bytes no more requests are taken in, so a host that asks and never listens cannot fill memory.
pub(crate) const REQUEST_LIMIT: usize = 1 << 20;

/// Encoded frames, in the order in which the host will see them.
///
/// The storage is initialised once and then reused, so that output can be read straight into its place: every pass over
/// the bytes costs an emulated guest as much as reading them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Queues a frame.
    pub(crate) fn push(&mut self, frame: &Frame) {
        let length = HEADER_LEN + frame.payload.len();
        let (head, payload) = self.space(length).split_at_mut(HEADER_LEN);
        head.copy_from_slice(&header(frame.kind, frame.id, frame.payload.len()));
        payload.copy_from_slice(&frame.payload);
        self.end += length;
    }

    /// Queues a frame without payload.
    pub(crate) fn push_empty(&mut self, kind: Kind, stream: u32) {
        self.push(&Frame::new(kind, stream, Vec::new()));
    }

    /// Queues a data frame of at most `room` bytes, as many as `read` puts into the space it is given. Queues nothing if
    /// that is none or fails. `room` is at most [`MAX_DATA`](microagent_protocol::frame::MAX_DATA).
    pub(crate) fn push_data<E>(
        &mut self,
        stream: u32,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let (head, payload) = self.space(HEADER_LEN + room).split_at_mut(HEADER_LEN);
        let count = read(payload)?;
        if count > 0 {
            head.copy_from_slice(&header(Kind::Data, stream, count));
            self.end += HEADER_LEN + count;
        }
        Ok(count)
    }

    /// What is not sent yet.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Forgets the first `count` unsent bytes: they were sent.
    pub(crate) fn advance(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The next `length` bytes of the storage.
    fn space(&mut self, length: usize) -> &mut [u8] {
        if self.start >= OUTPUT_LIMIT {
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.storage.len() < self.end + length {
            self.storage.resize(self.end + length, 0);
        }
        &mut self.storage[self.end..self.end + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microagent_protocol::Decoder;
    use microagent_protocol::frame::MAX_DATA;
    use proptest::prelude::*;

    fn push(outbox: &mut Outbox, stream: u32, payload: &[u8]) {
        let read = |space: &mut [u8]| {
            space.copy_from_slice(payload);
            Ok::<_, ()>(payload.len())
        };
        outbox.push_data(stream, payload.len(), read).unwrap();
    }

    proptest! {
        #[test]
        fn frames_leave_whole_and_in_order_however_little_the_port_takes(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 1..40),
            takes in prop::collection::vec(1usize..5000, 1..20),
        ) {
            let (mut outbox, mut decoder, mut seen) = (Outbox::default(), Decoder::default(), Vec::new());
            let mut takes = takes.into_iter().cycle();
            for (id, payload) in payloads.iter().enumerate() {
                push(&mut outbox, id as u32, payload);
                let count = takes.next().unwrap().min(outbox.unsent().len());
                decoder.extend(&outbox.unsent()[..count]);
                outbox.advance(count);
            }
            decoder.extend(outbox.unsent());
            while let Some(frame) = decoder.next_frame().unwrap() {
                seen.push(frame.payload);
            }
            prop_assert_eq!(seen, payloads);
        }
    }

    #[test]
    fn a_read_that_gives_nothing_leaves_nothing_behind() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, b"before");
        let before = outbox.unsent().to_vec();
        assert_eq!(outbox.push_data(1, 10, |_| Err("again")), Err("again"));
        assert_eq!(outbox.push_data(1, 10, |_| Ok::<_, ()>(0)), Ok(0));
        assert_eq!(outbox.unsent(), before);
    }

    #[test]
    fn memory_of_sent_bytes_is_given_back_while_the_queue_never_empties() {
        let mut outbox = Outbox::default();
        let payload = vec![0; MAX_DATA];
        push(&mut outbox, 1, &payload);
        for _ in 0..100 {
            push(&mut outbox, 1, &payload);
            outbox.advance(MAX_DATA);
        }
        assert!(outbox.storage.len() <= 2 * OUTPUT_LIMIT, "{} bytes kept", outbox.storage.len());
    }
}
