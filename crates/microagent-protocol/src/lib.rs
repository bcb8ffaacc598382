//! What the host and the guest agent say to each other, and the shape of an error on its way out.
//!
//! One byte stream connects the host to the agent: a virtio-serial port, or a vsock connection where there is one. This
//! crate turns it into independent conversations, and does no I/O itself: bytes in, frames out, and back.
//!
//! - A **call** is a request from the host with an id, answered by exactly one reply
//!   ([`message`]).
//! - A **stream** is a one-way flow of bytes with an id of its own, such as the standard output of a command. It is
//!   flow-controlled by credit ([`flow`]), so that the slow reader of one never stalls another.
//! - Both travel as length-bounded **frames** ([`frame`]).
//!
//! The supervisor of a workspace is spoken to in the same way, over a Unix socket ([`supervisor`]).
//!
//! The conversation opens with a [`Hello`] from the guest, which then waits: everything particular to a run arrives in a
//! [`Boot`] request. The host hands out all ids.
//!
//! A machine with a workspace can be made to stand still ([`Request::Quiesce`]), with nothing on its way in either direction. Then it can be
//! written down, and go on, as itself or as somebody else ([`wake`]).
//!
//! ```
//! use microagent_protocol::{Decoder, Frame, Kind};
//!
//! let mut wire = Vec::new();
//! Frame::new(Kind::Data, 7, b"hello".to_vec()).encode(&mut wire);
//!
//! let mut decoder = Decoder::default();
//! decoder.extend(&wire);
//! let frame = decoder.next_frame()?.expect("a whole frame was fed");
//! assert_eq!((frame.kind, frame.id, &frame.payload[..]), (Kind::Data, 7, &b"hello"[..]));
//! # Ok::<(), microagent_protocol::FrameError>(())
//! ```

pub mod fault;
pub mod flow;
pub mod frame;
pub mod message;
pub mod supervisor;
pub mod wake;
mod wipe;

pub use fault::{Fault, FaultKind, FaultReport};
pub use flow::{CreditExceeded, ReceiveWindow, SendWindow};
pub use frame::{Decoder, Frame, FrameError, Kind};
pub use message::{
    Boot, Capacity, Change, ChangeKind, Disk, Exec, Exit, FileKind, FileStat, Hello, Mount, Network, ON_DEMAND, Owner,
    PRIVATE, Recipients, Refusal, RefusalCode, Reply, Request, SECRETS, Stats, TRUST, WindowSize,
};
pub use wake::{Adopt, Wake};
pub use wipe::{wipe, wipe_vec};

/// Version of the conversation. Host and guest must agree on it exactly: the host embeds the agent it was built with, so
/// the two differ only if something is wrong.
pub const PROTOCOL_VERSION: u32 = 5;
