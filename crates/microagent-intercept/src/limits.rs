//! What one machine may ask of the interceptor. Everything that the guest decides the size of has its bound here.

use std::time::Duration;

/// Most connections at once. Each may hold [`CONNECTION_WINDOW`] of what was received, and [`STREAM_BUFFER`] for each of its [`STREAMS`] of
/// what is to be sent: all of them together at most a gigabyte.
pub(crate) const CONNECTIONS: usize = 512;
/// Most bytes of the head of a message.
pub(crate) const HEAD_BYTES: usize = 64 << 10;
/// Most fields of it.
pub(crate) const HEAD_FIELDS: usize = 256;
/// How long a head may take from its first byte, as may a `ClientHello`.
pub(crate) const HEAD_TIME: Duration = Duration::from_mins(1);
/// How long a server may take over its half of the handshake.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(30);
/// Most requests at once in a connection of HTTP/2.
pub(crate) const STREAMS: u32 = 64;
/// What one of them may have under way. The 64 KiB of RFC 9113, 6.9.2 would hold a download from afar to a few MB/s.
pub(crate) const STREAM_WINDOW: u32 = 512 << 10;
/// What all of them together may.
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is held of a stream while its reader is slow.
pub(crate) const STREAM_BUFFER: usize = 16 << 10;
/// Certificates that are kept for the next connection to the same host.
pub(crate) const LEAVES: usize = 256;
