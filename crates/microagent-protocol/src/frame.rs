//! Frames: the unit in which calls and streams share one byte stream.
//!
//! A frame is a 12-byte header and a payload. The header is little-endian: payload length (4 bytes), id (4 bytes), kind
//! (1 byte), three zero bytes. What comes in is never trusted: the length is bounded by the kind before anything is
//! allocated, and the spare bytes must be zero.

use crate::wipe;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 12;

/// Most bytes a [`Kind::Data`] frame may carry: large enough that headers cost nothing, small enough that frames of
/// several streams interleave.
pub const MAX_DATA: usize = 64 << 10;

/// Most bytes a frame with a JSON payload may carry. A request holds argv and the environment of a command, which Linux
/// itself bounds to about 2 MiB (`execve(2)`); JSON escapes can double that.
pub const MAX_MESSAGE: usize = 4 << 20;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Guest to host, first and once, id 0: a JSON [`Hello`](crate::Hello).
    Hello = 1,
    /// Host to guest: a JSON [`Request`](crate::Request); the id names the call.
    Call = 2,
    /// Guest to host: the JSON [`Reply`](crate::Reply) that ends the call of that id.
    Reply = 3,
    /// Bytes of the stream of that id.
    Data = 4,
    /// The sender of the stream has no more bytes. Empty payload.
    End = 5,
    /// The receiver of the stream takes this many more bytes (4 bytes, little-endian).
    Credit = 6,
    /// The receiver wants no more of the stream; bytes already sent are dropped. Empty payload.
    Reset = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Hello, Kind::Call, Kind::Reply, Kind::Data, Kind::End, Kind::Credit, Kind::Reset]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    /// Most bytes a frame of this kind may carry.
    pub fn max_payload(self) -> usize {
        match self {
            Kind::Hello | Kind::Call | Kind::Reply => MAX_MESSAGE,
            Kind::Data => MAX_DATA,
            Kind::Credit => 4,
            Kind::End | Kind::Reset => 0,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: Kind,
    /// The call or stream it belongs to.
    pub id: u32,
    /// The payload, at most [`Kind::max_payload`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Makes a frame.
    ///
    /// # Panics
    ///
    /// When the payload is longer than its kind allows: what we send is ours to bound.
    pub fn new(kind: Kind, id: u32, payload: Vec<u8>) -> Frame {
        assert!(payload.len() <= kind.max_payload(), "payload of {} bytes in a {kind:?} frame", payload.len());
        Frame { kind, id, payload }
    }

    /// A [`Kind::Credit`] frame granting `bytes` more.
    pub fn credit(id: u32, bytes: u32) -> Frame {
        Frame::new(Kind::Credit, id, bytes.to_le_bytes().to_vec())
    }

    /// The grant of a [`Kind::Credit`] frame.
    pub fn credit_granted(&self) -> Option<u32> {
        (self.kind == Kind::Credit).then(|| self.payload.as_slice().try_into().ok().map(u32::from_le_bytes))?
    }

    /// Appends the frame to `wire`.
    pub fn encode(&self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(&header(self.kind, self.id, self.payload.len()));
        wire.extend_from_slice(&self.payload);
    }
}

/// The header of a frame whose payload is written separately, to spare a copy of bulk data.
pub fn header(kind: Kind, id: u32, payload_len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(payload_len <= kind.max_payload());
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&(payload_len as u32).to_le_bytes());
    header[4..8].copy_from_slice(&id.to_le_bytes());
    header[8] = kind as u8;
    header
}

/// The peer sent something that is not a frame. The byte stream cannot be resynchronised: the conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame has this kind.
    #[error("frame of unknown kind {0}")]
    UnknownKind(u8),
    /// The header claims more than the kind allows.
    #[error("{kind:?} frame claims {len} bytes, more than the {max} it may carry", max = kind.max_payload())]
    TooLong {
        /// The kind claimed.
        kind: Kind,
        /// The length claimed.
        len: usize,
    },
    /// The spare bytes of the header are not zero.
    #[error("frame header with non-zero spare bytes")]
    Spare,
}

/// Cuts a byte stream into frames, whatever pieces it arrives in.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// A decoder that holds so many bytes without having to move them to another place in memory.
    pub fn with_room(bytes: usize) -> Decoder {
        Decoder { buffer: Vec::with_capacity(bytes), start: 0 }
    }

    /// Takes in bytes as they came.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some((head, body)) = pending.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let (len, id, kind) = parse_header(head)?;
        let Some(payload) = body.get(..len) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.start += HEADER_LEN + len;
        Ok(Some(Frame { kind, id, payload }))
    }

    /// Overwrites what is left in memory of the frames that have been handed out.
    pub fn wipe_taken(&mut self) {
        let pending = self.buffer.len();
        self.buffer.resize(self.buffer.capacity(), 0);
        wipe(&mut self.buffer[..self.start]);
        wipe(&mut self.buffer[pending..]);
        self.buffer.truncate(pending);
    }
}

fn parse_header(head: &[u8; HEADER_LEN]) -> Result<(usize, u32, Kind), FrameError> {
    let [l0, l1, l2, l3, i0, i1, i2, i3, kind, spare @ ..] = *head;
    let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if len > kind.max_payload() {
        return Err(FrameError::TooLong { kind, len });
    }
    if spare != [0; 3] {
        return Err(FrameError::Spare);
    }
    Ok((len, u32::from_le_bytes([i0, i1, i2, i3]), kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let kinds = [Kind::Hello, Kind::Call, Kind::Reply, Kind::Data, Kind::End, Kind::Credit, Kind::Reset];
        (prop::sample::select(kinds.to_vec()), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(kind, id, mut payload)| {
                payload.truncate(kind.max_payload());
                Frame::new(kind, id, payload)
            },
        )
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(
            frames in prop::collection::vec(any_frame(), 0..12),
            piece in 1usize..97,
        ) {
            let mut wire = Vec::new();
            for frame in &frames {
                frame.encode(&mut wire);
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for chunk in wire.chunks(piece) {
                decoder.extend(chunk);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic_or_buffer_without_bound(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::default();
            decoder.extend(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                prop_assert!(frame.payload.len() <= frame.kind.max_payload());
            }
        }
    }

    #[test]
    fn a_length_beyond_the_kinds_limit_is_refused_before_its_payload_arrives() {
        let mut decoder = Decoder::default();
        let mut head = header(Kind::Data, 1, 0);
        head[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        decoder.extend(&head);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong { kind: Kind::Data, len: u32::MAX as usize }));
    }

    #[test]
    #[allow(unsafe_code, reason = "to see what is left in memory")]
    fn frames_that_were_handed_out_and_wiped_are_nowhere_in_the_decoder() {
        let mut wire = Vec::new();
        Frame::new(Kind::Data, 1, b"early".to_vec()).encode(&mut wire);
        Frame::new(Kind::Data, 1, b"secret".repeat(20)).encode(&mut wire);
        Frame::new(Kind::Data, 1, b"late".to_vec()).encode(&mut wire);
        let mut decoder = Decoder::with_room(4096);
        // In two pieces, so that part of the secret is moved.
        let (first, second) = wire.split_at(40);
        decoder.extend(first);
        decoder.next_frame().unwrap().unwrap();
        decoder.extend(second);
        decoder.next_frame().unwrap().unwrap();
        decoder.wipe_taken();
        assert_eq!(decoder.buffer.capacity(), 4096, "it was not moved elsewhere");
        let pending = decoder.buffer.len();
        // SAFETY: all of it was written to by the wiping.
        unsafe { decoder.buffer.set_len(decoder.buffer.capacity()) };
        assert!(decoder.buffer[..decoder.start].iter().chain(&decoder.buffer[pending..]).all(|byte| *byte == 0));
        decoder.buffer.truncate(pending);
        assert_eq!(decoder.next_frame().unwrap().unwrap().payload, b"late");
    }

    #[test]
    fn credit_survives_the_wire() {
        assert_eq!(Frame::credit(3, 77).credit_granted(), Some(77));
        assert_eq!(Frame::new(Kind::Credit, 3, vec![1]).credit_granted(), None);
    }
}
