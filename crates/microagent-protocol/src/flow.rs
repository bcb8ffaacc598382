//! Credit: how much of a stream may be on its way.
//!
//! Every stream starts with [`INITIAL_CREDIT`] bytes in the sender's hand. Sending spends it; the receiver grants more
//! as its consumer takes bytes. A receiver therefore never holds more than one window per stream, however slow its
//! consumer and however fast or hostile the sender.

/// Bytes a sender may send before the first grant. Four data frames: enough that the pipe never runs dry over a
/// connection whose round trip is a fraction of a millisecond.
pub const INITIAL_CREDIT: u32 = 256 << 10;

/// The sender's side of one stream.
#[derive(Debug)]
pub struct SendWindow {
    available: u32,
}

impl Default for SendWindow {
    fn default() -> Self {
        SendWindow { available: INITIAL_CREDIT }
    }
}

impl SendWindow {
    /// Bytes that may be sent now.
    pub fn available(&self) -> usize {
        self.available as usize
    }

    /// Spends `bytes` of the window.
    ///
    /// # Panics
    ///
    /// When more is spent than is available: the caller asks first.
    pub fn spend(&mut self, bytes: usize) {
        assert!(bytes <= self.available(), "spent {bytes} bytes of {} available", self.available);
        self.available -= bytes as u32;
    }

    /// Adds what the receiver granted. A receiver that grants more than there is room for is taken at its word up to the
    /// most that can be counted; it only hurts itself.
    pub fn grant(&mut self, bytes: u32) {
        self.available = self.available.saturating_add(bytes);
    }
}

/// The receiver's side of one stream.
#[derive(Debug)]
pub struct ReceiveWindow {
    outstanding: u32,
    consumed: u32,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        ReceiveWindow { outstanding: INITIAL_CREDIT, consumed: 0 }
    }
}

/// The sender sent more than it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream received {got} bytes with {granted} bytes of credit")]
pub struct CreditExceeded {
    got: usize,
    granted: u32,
}

impl ReceiveWindow {
    /// Counts bytes that arrived.
    pub fn receive(&mut self, bytes: usize) -> Result<(), CreditExceeded> {
        match u32::try_from(bytes).ok().and_then(|bytes| self.outstanding.checked_sub(bytes)) {
            Some(left) => {
                self.outstanding = left;
                Ok(())
            }
            None => Err(CreditExceeded { got: bytes, granted: self.outstanding }),
        }
    }

    /// Counts bytes the consumer took, and says how much to grant now, if anything. Grants are saved up to half a window
    /// so that they cost a fraction of a percent of the frames.
    pub fn consume(&mut self, bytes: usize) -> Option<u32> {
        self.consumed += bytes as u32;
        if self.consumed < INITIAL_CREDIT / 2 {
            return None;
        }
        self.outstanding += self.consumed;
        Some(std::mem::take(&mut self.consumed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_consumer_that_keeps_reading_never_starves_the_sender(sizes in prop::collection::vec(1usize..70_000, 1..200)) {
            let (mut send, mut receive) = (SendWindow::default(), ReceiveWindow::default());
            for size in sizes {
                let size = size.min(send.available());
                prop_assert!(size > 0, "the sender ran dry");
                send.spend(size);
                receive.receive(size).unwrap();
                if let Some(grant) = receive.consume(size) {
                    send.grant(grant);
                }
            }
        }
    }

    #[test]
    fn bytes_beyond_the_credit_are_refused() {
        let mut window = ReceiveWindow::default();
        window.receive(INITIAL_CREDIT as usize).unwrap();
        assert!(window.receive(1).is_err());
    }
}
