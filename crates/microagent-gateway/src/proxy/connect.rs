//! Having a proxy connect (RFC 9110, 9.3.6).

use super::{ProxyError, ProxyServer};
use std::net::SocketAddr;
use zeroize::Zeroizing;

/// Most bytes of the answers to it, those before the last one included.
const MAX_ANSWER: usize = 16 << 10;
const MAX_FIELDS: usize = 64;
/// Most characters of what the proxy says about a refusal that are passed on.
const MAX_SAID: usize = 80;
const PROXY_AUTHENTICATION_REQUIRED: u16 = 407;

/// The opening of a connection through a proxy. It touches no socket: what is [to be sent](Handshake::to_send) is sent, what arrives is
/// [handed in](Handshake::received).
pub struct Handshake {
    request: Zeroizing<Vec<u8>>,
    sent: usize,
    answer: Vec<u8>,
    /// Bytes of the answers before that one.
    before: usize,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The answer is not whole.
    More,
    /// The connection is through.
    Open {
        /// What the server has said already.
        rest: Vec<u8>,
    },
}

impl Handshake {
    /// Of a connection to this very `address`: a name would be looked up once more, by somebody else.
    pub fn new(proxy: &ProxyServer, address: SocketAddr) -> Handshake {
        let mut request = Zeroizing::new(Vec::with_capacity(1 << 10));
        request.extend_from_slice(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n").as_bytes());
        if let Some(authorization) = &proxy.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        Handshake { request, sent: 0, answer: Vec::new(), before: 0 }
    }

    /// What is still to be sent.
    pub fn to_send(&mut self) -> &[u8] {
        &self.request[self.sent..]
    }

    /// That the first `count` bytes of it were.
    pub fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.request.len());
    }

    /// That `bytes` came from the proxy. After anything but [`Progress::More`] there is nothing more to hand in.
    pub fn received(&mut self, bytes: &[u8]) -> Result<Progress, ProxyError> {
        self.answer.extend_from_slice(bytes);
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut response = httparse::Response::new(&mut fields);
            let head = match response.parse(&self.answer) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if self.before + self.answer.len() < MAX_ANSWER => {
                    return Ok(Progress::More);
                }
                _ => return Err(ProxyError::Malformed),
            };
            match response.code.unwrap_or_default() {
                // Others come first, and mean nothing here (RFC 9110, 15.2). None of them is Switching Protocols, which was not asked for.
                100 | 102..=199 if self.before + head < MAX_ANSWER => {
                    self.answer.drain(..head);
                    self.before += head;
                }
                200..=299 => return Ok(Progress::Open { rest: self.answer.split_off(head) }),
                PROXY_AUTHENTICATION_REQUIRED => return Err(ProxyError::Unauthorized),
                status => {
                    return Err(ProxyError::Refused { status, said: printable(response.reason.unwrap_or_default()) });
                }
            }
        }
    }
}

fn printable(said: &str) -> String {
    said.chars().filter(|char| char.is_ascii_graphic() || *char == ' ').take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Proxies;
    use proptest::prelude::*;

    fn handshake(value: &str) -> Handshake {
        let to = "192.0.2.1:443".parse().unwrap();
        let proxies = Proxies::from_values(Some(value), None, None).unwrap();
        Handshake::new(proxies.for_target(Some("api.example"), to).unwrap(), to)
    }

    #[test]
    fn the_proxy_is_asked_for_the_address_and_not_for_the_name() {
        let mut handshake = handshake("http://user:p%40ss@proxy:1");
        let expected =
            "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n";
        assert_eq!(handshake.to_send(), expected.as_bytes());
        handshake.sent(8);
        assert_eq!(handshake.to_send(), &expected.as_bytes()[8..]);
        handshake.sent(usize::MAX - 8);
        assert!(handshake.to_send().is_empty());
    }

    #[test]
    fn the_answer_may_come_in_pieces_and_what_follows_is_the_servers() {
        let mut handshake = handshake("proxy:1");
        let answer =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\nContent-Length: 9\r\n\r\nSSH-2.0";
        let (head, rest) = answer.split_at(answer.len() - 7);
        for byte in &head[..head.len() - 1] {
            assert_eq!(handshake.received(&[*byte]), Ok(Progress::More));
        }
        let last = [&head[head.len() - 1..], rest].concat();
        assert_eq!(handshake.received(&last), Ok(Progress::Open { rest: b"SSH-2.0".to_vec() }));
    }

    #[test]
    fn a_refusal_says_what_the_proxy_said() {
        let refused = handshake("p:1").received(b"HTTP/1.1 403 Not \x01here\r\n\r\n");
        assert_eq!(refused, Err(ProxyError::Malformed));
        let refused = handshake("p:1").received(b"HTTP/1.1 503 Not here\r\n\r\n");
        assert_eq!(refused, Err(ProxyError::Refused { status: 503, said: "Not here".into() }));
        assert_eq!(handshake("p:1").received(b"HTTP/1.1 407 x\r\n\r\n"), Err(ProxyError::Unauthorized));
        let switched = handshake("p:1").received(b"HTTP/1.1 101 x\r\n\r\n");
        assert!(matches!(switched, Err(ProxyError::Refused { status: 101, .. })));
        assert_eq!(handshake("p:1").received(b"SSH-2.0-x\r\n"), Err(ProxyError::Malformed));
    }

    #[test]
    fn an_answer_without_end_ends() {
        let mut handshake = handshake("p:1");
        assert_eq!(handshake.received(b"HTTP/1.1 200 OK\r\nX: "), Ok(Progress::More));
        let end = (0..32).find_map(|_| handshake.received(&[b'x'; 1024]).err());
        assert_eq!(end, Some(ProxyError::Malformed));
    }

    proptest! {
        #[test]
        fn any_answer_is_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300, http in any::<bool>()) {
            let mut handshake = handshake("p:1");
            let answer = if http { [b"HTTP/1.1 200 ", bytes.as_slice()].concat() } else { bytes };
            let (first, second) = answer.split_at(cut.min(answer.len()));
            if handshake.received(first) == Ok(Progress::More) {
                let _ = handshake.received(second);
            }
        }
    }
}
