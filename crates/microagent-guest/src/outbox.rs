//! Frames on their way to the host.

use microagent_protocol::frame::header;
use microagent_protocol::{Frame, Kind};

/// Above this many unsent bytes no more output of commands is taken in. Four of the largest data frames: the port never
/// runs dry, and a reply waits behind at most this much.
pub(crate) const OUTPUT_LIMIT: usize = 256 << 10;

/// Above this many unsent bytes no more requests are taken in, so a host that asks and never listens cannot fill memory.
pub(crate) const REQUEST_LIMIT: usize = 1 << 20;

/// Encoded frames, in the order in which the host will see them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Queues a frame.
    pub(crate) fn push(&mut self, frame: &Frame) {
        frame.encode(&mut self.bytes);
    }

    /// Queues a data frame. `payload` is at most [`MAX_DATA`](microagent_protocol::frame::MAX_DATA) bytes.
    pub(crate) fn push_data(&mut self, stream: u32, payload: &[u8]) {
        self.bytes.extend_from_slice(&header(Kind::Data, stream, payload.len()));
        self.bytes.extend_from_slice(payload);
    }

    /// Queues a frame without payload.
    pub(crate) fn push_empty(&mut self, kind: Kind, stream: u32) {
        self.bytes.extend_from_slice(&header(kind, stream, 0));
    }

    /// What is not sent yet.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Forgets the first `count` unsent bytes: they were sent.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        debug_assert!(self.sent <= self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= OUTPUT_LIMIT {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microagent_protocol::Decoder;
    use microagent_protocol::frame::MAX_DATA;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_leave_whole_and_in_order_however_little_the_port_takes(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..40),
            takes in prop::collection::vec(1usize..5000, 1..20),
        ) {
            let (mut outbox, mut decoder, mut seen) = (Outbox::default(), Decoder::default(), Vec::new());
            let mut takes = takes.into_iter().cycle();
            for (id, payload) in payloads.iter().enumerate() {
                outbox.push_data(id as u32, payload);
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
    fn memory_of_sent_bytes_is_given_back_while_the_queue_never_empties() {
        let mut outbox = Outbox::default();
        let payload = vec![0; MAX_DATA];
        outbox.push_data(1, &payload);
        for _ in 0..100 {
            outbox.push_data(1, &payload);
            outbox.advance(MAX_DATA);
        }
        assert!(outbox.bytes.len() <= 2 * OUTPUT_LIMIT, "{} bytes kept", outbox.bytes.len());
    }
}
