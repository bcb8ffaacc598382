//! Fields of a message that are for the next hop alone (RFC 9110, 7.6.1).

use hyper::http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::http::{HeaderMap, HeaderValue, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What the fields that were taken away had said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hop {
    /// The connection is to be closed.
    pub(crate) close: bool,
    /// It is to become one of WebSocket (RFC 6455, 4.1).
    pub(crate) websocket: bool,
    /// Trailers are understood.
    pub(crate) trailers: bool,
}

impl Hop {
    /// Takes the fields of a hop away.
    pub(crate) fn strip(fields: &mut HeaderMap) -> Hop {
        let is_upgrade = tokens(fields, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
        let hop = Hop {
            close: tokens(fields, &CONNECTION).any(|token| token.eq_ignore_ascii_case("close")),
            websocket: is_upgrade && tokens(fields, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket")),
            trailers: tokens(fields, &TE).any(|token| token.eq_ignore_ascii_case("trailers")),
        };
        let named: Vec<HeaderName> = tokens(fields, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
        // Whoever names these means to have a request of two readings: they are never of one hop.
        for name in named.iter().filter(|name| ![CONTENT_LENGTH, HOST].contains(name)) {
            fields.remove(name);
        }
        if fields.contains_key(TRANSFER_ENCODING) {
            fields.remove(CONTENT_LENGTH);
        }
        for name in [
            CONNECTION,
            KEEP_ALIVE,
            PROXY_CONNECTION,
            HTTP2_SETTINGS,
            PROXY_AUTHENTICATE,
            PROXY_AUTHORIZATION,
            TE,
            TRANSFER_ENCODING,
            UPGRADE,
        ] {
            fields.remove(name);
        }
        hop
    }

    /// Says it to the next hop, in a request of `version`.
    pub(crate) fn say(self, fields: &mut HeaderMap, version: Version) {
        if version >= Version::HTTP_2 {
            // The one field of a hop that RFC 9113, 8.2.2 leaves to it.
            if self.trailers {
                fields.insert(TE, HeaderValue::from_static("trailers"));
            }
        } else if self.websocket {
            say_websocket(fields);
        } else if self.trailers {
            fields.insert(CONNECTION, HeaderValue::from_static("te"));
            fields.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Says that the connection becomes one of WebSocket.
pub(crate) fn say_websocket(fields: &mut HeaderMap) {
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn tokens(fields: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<String> = values.flat_map(|value| value.split(',')).map(|token| token.trim().to_owned()).collect();
    all.into_iter().filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn what_is_for_one_hop_ends_with_it() {
        let mut all = fields(&[
            ("connection", "close, X-Own"),
            ("connection", "te"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
        ]);
        let hop = Hop::strip(&mut all);
        assert_eq!(hop, Hop { close: true, websocket: false, trailers: true });
        assert_eq!(all, fields(&[("trailer", "x-sum"), ("accept", "*/*")]));
        hop.say(&mut all, Version::HTTP_11);
        assert_eq!(
            (&all["te"], &all["connection"]),
            (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("te"))
        );
    }

    #[test]
    fn websocket_is_the_one_upgrade_that_is_passed_on() {
        let mut asks = fields(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]);
        let hop = Hop::strip(&mut asks);
        hop.say(&mut asks, Version::HTTP_11);
        assert_eq!(asks, fields(&[("connection", "upgrade"), ("upgrade", "websocket")]));
        for not in
            [[("connection", "upgrade"), ("upgrade", "h2c")], [("connection", "close"), ("upgrade", "websocket")]]
        {
            assert!(!Hop::strip(&mut fields(&not)).websocket);
        }
    }

    #[test]
    fn a_message_has_one_length_and_one_host() {
        let mut both = fields(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        Hop::strip(&mut both);
        assert!(both.is_empty());
        let mut named = fields(&[("connection", "content-length, Host"), ("content-length", "3"), ("host", "a")]);
        Hop::strip(&mut named);
        assert_eq!(named, fields(&[("content-length", "3"), ("host", "a")]));
    }
}
