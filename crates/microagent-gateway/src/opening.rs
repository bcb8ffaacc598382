//! What a connection opens with, told from its first bytes.
//!
//! Whoever relies on the name that is found here, relies on the server reading the same bytes in the same way. So what could be read in two
//! ways names nobody, and nothing that begins as TLS or HTTP is ever taken for something [`Sniffed::Other`].

mod http;
mod tls;

/// Most bytes that are looked at. The head of a request is as large as servers commonly take it; a `ClientHello` with a post-quantum key
/// share is a tenth of this.
pub(crate) const MAX_OPENING: usize = 16 << 10;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// Too few of them to tell.
    More,
    /// A `ClientHello` (RFC 8446, 4.1.2).
    Tls {
        /// The server it names (RFC 6066, 3), in lower case; none where it names none, several, or is malformed.
        name: Option<String>,
        /// Whether it carries another, encrypted one (RFC 9849).
        encrypted: bool,
    },
    /// A request of HTTP/1, or the preface of HTTP/2, which names nobody.
    Http {
        /// The host it names, in lower case and without a port; none where it names none, several, or is malformed.
        host: Option<String>,
    },
    /// Something else.
    Other,
}

impl Sniffed {
    const UNNAMED_TLS: Sniffed = Sniffed::Tls { name: None, encrypted: false };
    const UNNAMED_HTTP: Sniffed = Sniffed::Http { host: None };
}

/// What `bytes`, the first of a connection, are.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let sniffed = match bytes {
        [] => Sniffed::More,
        [tls::HANDSHAKE, ..] => tls::sniff(&bytes[..bytes.len().min(MAX_OPENING)]),
        _ => http::sniff(&bytes[..bytes.len().min(MAX_OPENING)]),
    };
    if sniffed == Sniffed::More && bytes.len() >= MAX_OPENING { settle(bytes) } else { sniffed }
}

/// What `bytes` are if no more come, or the server speaks before they do: a client that falls silent in the middle of a `ClientHello` or of
/// what may become a request has opened with one, and named nobody.
pub fn settle(bytes: &[u8]) -> Sniffed {
    let bytes = &bytes[..bytes.len().min(MAX_OPENING)];
    match bytes {
        [] => Sniffed::Other,
        [tls::HANDSHAKE, ..] => match tls::sniff(bytes) {
            Sniffed::More => Sniffed::UNNAMED_TLS,
            sniffed => sniffed,
        },
        _ => match http::sniff(bytes) {
            Sniffed::More if http::may_be_request(bytes) => Sniffed::UNNAMED_HTTP,
            Sniffed::More => Sniffed::Other,
            sniffed => sniffed,
        },
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
