//! The `ClientHello` (RFC 8446, 4.1.2), out of however many records it comes in (RFC 8446, 5.1).

use super::{MAX_OPENING, Sniffed};
use microagent_egress::is_name;

/// Type of a record that carries handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// First byte of the version of every record since SSL 3.
const MAJOR_VERSION: u8 = 3;
/// Most bytes of a record (RFC 8446, 5.1).
const MAX_RECORD: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
/// Extensions (IANA, TLS `ExtensionType` values).
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// What came before it, in drafts, and was in use.
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;
/// Kind of a name in the extension (RFC 6066, 3).
const HOST_NAME: u8 = 0;

/// What `bytes` are, of which the first is [`HANDSHAKE`].
pub(super) fn sniff(bytes: &[u8]) -> Sniffed {
    match bytes.get(1) {
        None => return Sniffed::More,
        Some(&MAJOR_VERSION) => {}
        Some(_) => return Sniffed::Other,
    }
    let Some(message) = handshake(bytes) else { return Sniffed::UNNAMED_TLS };
    let [kind, length @ ..] = match message.as_slice() {
        [kind, a, b, c, ..] => [*kind, *a, *b, *c],
        [kind, ..] if *kind != CLIENT_HELLO => return Sniffed::UNNAMED_TLS,
        _ => return Sniffed::More,
    };
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    if kind != CLIENT_HELLO || length > MAX_OPENING {
        return Sniffed::UNNAMED_TLS;
    }
    match message.get(4..4 + length) {
        None => Sniffed::More,
        Some(hello) => {
            client_hello(hello).map_or(Sniffed::UNNAMED_TLS, |(name, encrypted)| Sniffed::Tls { name, encrypted })
        }
    }
}

/// The handshake messages in the records that are there, the last of which may be cut short. None if another record is among them, or one
/// that no implementation sends.
fn handshake(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [kind, after @ ..] = rest {
        if *kind != HANDSHAKE || after.first().is_some_and(|major| *major != MAJOR_VERSION) {
            // What follows a whole message is the client's next flight.
            return is_whole(&message).then_some(message);
        }
        let [_, _, high, low, body @ ..] = after else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(1..=MAX_RECORD).contains(&length) {
            return is_whole(&message).then_some(message);
        }
        let (body, following) = body.split_at(length.min(body.len()));
        message.extend_from_slice(body);
        rest = following;
    }
    Some(message)
}

fn is_whole(message: &[u8]) -> bool {
    let [_, a, b, c, body @ ..] = message else { return false };
    body.len() >= [*a, *b, *c].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// The name in a hello, and whether it carries another. None if it is malformed.
fn client_hello(hello: &[u8]) -> Option<(Option<String>, bool)> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?;
    hello.short_vector()?;
    let suites = hello.vector()?;
    let compressions = hello.short_vector()?;
    if suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    if hello.0.is_empty() {
        return Some((None, false));
    }
    let mut extensions = Reader(hello.vector()?);
    if !hello.0.is_empty() {
        return None;
    }
    let (mut names, mut encrypted) = (Vec::new(), false);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let body = extensions.vector()?;
        match kind {
            SERVER_NAME => names.push(server_name(body)),
            ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SERVER_NAME => encrypted = true,
            _ => {}
        }
    }
    // Twice the same extension is an error (RFC 8446, 4.2), which not every server notices.
    let name = if names.len() == 1 { names.pop().flatten() } else { None };
    Some((name, encrypted))
}

/// The one name in the extension. None if it is malformed or there are others.
fn server_name(body: &[u8]) -> Option<String> {
    let mut body = Reader(body);
    let mut list = Reader(body.vector()?);
    let kind = list.take(1)?[0];
    let name = list.vector()?;
    if kind != HOST_NAME || !list.0.is_empty() || !body.0.is_empty() {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    is_name(&name).then_some(name)
}

/// Bytes that are taken from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// With its length before it, in a byte.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// With its length before it, in two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}
