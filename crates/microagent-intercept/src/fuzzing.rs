//! Parsers of hostile bytes, for those who make such bytes up.

use crate::connection::Connection;
use crate::gate::{Gate, Signals};
use crate::headers::Hop;
use crate::{request, scan};
use hyper::http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use hyper::http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// Fields that are never passed on as they came.
const OF_A_HOP: [HeaderName; 3] = [TE, TRANSFER_ENCODING, UPGRADE];

/// What a guest says, in pieces.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What passes the gate before the HTTP library of what is said in `pieces`, and whether something was refused.
pub fn gate(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("there are descriptors");
    }
    // An empty piece would be the end.
    let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
    let signals = Arc::<Signals>::default();
    let passed = async {
        let (mut gate, mut passed) = (Gate::new(Pieces(pieces), Arc::clone(&signals)), Vec::new());
        loop {
            let mut space = [0; 100];
            let mut read = ReadBuf::new(&mut space);
            // It waits for nothing but the end of a connection over which something was refused.
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut gate).poll_read(cx, &mut read))).await;
            match polled {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => passed.extend_from_slice(read.filled()),
                _ => return passed,
            }
        }
    };
    let passed = RUNTIME.with(|runtime| runtime.block_on(passed));
    (passed, signals.refusal().is_some())
}

/// Takes a request of HTTP/1 or 2 to `api.example` apart, as the one that is passed on is made of it. Whether it would be.
pub fn request(method: &[u8], uri: &[u8], fields: &[(&[u8], &[u8])], http2: bool) -> bool {
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(uri)) else { return false };
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
        }
    }
    let (mut parts, ()) = request.into_parts();
    let address = "192.0.2.1:443".parse().expect("it is one");
    let connection = Connection { name: "api.example".to_owned(), address, tls: true };
    if request::check(&parts, &connection).is_err() {
        return false;
    }
    let hop = Hop::strip(&mut parts.headers);
    assert!(OF_A_HOP.iter().all(|name| !parts.headers.contains_key(name)) && !parts.headers.contains_key(CONNECTION));
    assert!(parts.uri.authority().is_none_or(|authority| authority.host().eq_ignore_ascii_case("api.example")));
    hop.say(&mut parts.headers, parts.version);
    scan::find_in_head(&parts.uri, &parts.headers).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sound_passes_and_what_is_not_is_refused() {
        let sound = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(gate(&[sound]), (sound.to_vec(), false));
        assert_eq!(gate(&[&sound[..20], &[], &sound[20..50], &sound[50..]]), (sound.to_vec(), false));
        assert!(gate(&[b"GET / HTTP/1.1\r\n x: 1\r\n\r\n"]).1);
        assert!(request(b"GET", b"/", &[(b"host", b"api.example")], false));
        assert!(request(b"GET", b"https://API.example:443/x", &[], true));
        assert!(!request(b"GET", b"/", &[(b"host", b"other.example")], false));
        assert!(!request(b"GET", b"/?microagent-swap-x", &[(b"host", b"api.example")], false));
    }
}
