//! Which HTTP it is.

use rustix::net::{RecvFlags, recv};
use std::io;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// What a client of HTTP/2 that knows its server begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1, and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// Its name in TLS (RFC 7301, 6; RFC 9113, 3.2).
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Version::Http1 => b"http/1.1",
            Version::Http2 => b"h2",
        }
    }

    /// The one of that name.
    pub(crate) fn named(name: &[u8]) -> Option<Version> {
        [Version::Http1, Version::Http2].into_iter().find(|version| version.alpn() == name)
    }

    /// Those of `names`, in their order; HTTP/1.1 where nothing is named, and `None` where it is others alone.
    pub(crate) fn offered<'a>(names: Option<impl Iterator<Item = &'a [u8]>>) -> Option<Vec<Version>> {
        let Some(names) = names else { return Some(vec![Version::Http1]) };
        let known: Vec<Version> = names.filter_map(Version::named).collect();
        (!known.is_empty()).then_some(known)
    }

    /// The one that a connection without TLS begins with. Nothing is read of it.
    pub(crate) async fn of_opening(stream: &UnixStream) -> io::Result<Version> {
        let peek = || {
            let mut bytes = [0; PREFACE.len()];
            let (_, count) = recv(stream, &mut bytes[..], RecvFlags::PEEK)?;
            match &bytes[..count] {
                [] => Err(io::ErrorKind::UnexpectedEof.into()),
                begin if !PREFACE.starts_with(begin) => Ok(Version::Http1),
                PREFACE => Ok(Version::Http2),
                // There is more to come, which wakes this up again.
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        };
        stream.async_io(Interest::READABLE, peek).await
    }
}
