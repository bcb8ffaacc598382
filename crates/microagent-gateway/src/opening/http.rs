//! The head of a request of HTTP/1 (RFC 9112), as far as it tells which host is meant.

use super::Sniffed;
use microagent_egress::is_name;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest method. The longest that is registered (`UPDATEREDIRECTREF`) has 17 letters.
const MAX_METHOD: usize = 32;
const END: &[u8] = b"\r\n\r\n";

/// What `bytes` are, that do not begin as TLS.
pub(super) fn sniff(bytes: &[u8]) -> Sniffed {
    if !may_be_request(bytes) {
        return Sniffed::Other;
    }
    let bytes = without_empty_lines(bytes);
    let Some(line_end) = bytes.iter().position(|&byte| byte == b'\n') else { return Sniffed::More };
    if !names_version(&bytes[..line_end]) {
        return Sniffed::Other;
    }
    let end = bytes.windows(END.len()).position(|window| window == END);
    if !has_clean_lines(end.map_or(bytes, |end| &bytes[..end + END.len()])) {
        return Sniffed::UNNAMED_HTTP;
    }
    let Some(end) = end else { return Sniffed::More };
    Sniffed::Http { host: std::str::from_utf8(&bytes[..end]).ok().and_then(host) }
}

/// Whether they begin as a request does: with a method and a space, or the beginning of one.
pub(super) fn may_be_request(bytes: &[u8]) -> bool {
    let bytes = without_empty_lines(bytes);
    let length = bytes.iter().take_while(|byte| is_token(**byte)).count();
    length <= MAX_METHOD
        && match bytes.get(length) {
            None => true,
            Some(b' ') => length > 0,
            Some(_) => false,
        }
}

/// Servers skip empty lines before a request (RFC 9112, 2.2).
fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &bytes[empty..]
}

/// Whether a line says that it is of HTTP, well-formed or not. What does not is of another protocol (`EHLO example.com`).
fn names_version(line: &[u8]) -> bool {
    line.windows(5).any(|window| window.eq_ignore_ascii_case(b"http/"))
}

/// Whether every line ends with CR LF, and neither is anywhere else, nor any other control character. Some servers end a line, or the head,
/// at less.
fn has_clean_lines(seen: &[u8]) -> bool {
    seen.iter().enumerate().all(|(at, &byte)| match byte {
        b'\n' => at.checked_sub(1).is_some_and(|before| seen[before] == b'\r'),
        b'\r' => seen.get(at + 1).is_none_or(|after| *after == b'\n'),
        b'\t' => true,
        byte => !byte.is_ascii_control(),
    })
}

/// The one host that the head of a request names.
fn host(head: &str) -> Option<String> {
    let mut lines = head.split("\r\n");
    let mut parts = lines.next()?.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return None;
    }
    let mut hosts = Vec::new();
    // The target of CONNECT is not who is spoken to.
    if method != "CONNECT" && target != "*" && !target.starts_with('/') {
        hosts.push(authority(target)?);
    }
    let mut fields = 0;
    for line in lines {
        // A folded line, or space before the colon, is read in more than one way (RFC 9112, 5.1 and 5.2).
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        if name.eq_ignore_ascii_case("host") {
            fields += 1;
            hosts.push(value.trim_matches([' ', '\t']));
        }
    }
    if fields > 1 {
        return None;
    }
    let mut hosts = hosts.into_iter().map(without_port);
    let first = hosts.next()??;
    hosts.all(|host| host.as_ref() == Some(&first)).then_some(first)
}

/// The authority in a target as it is meant for proxies, which servers have to understand, too (RFC 9112, 3.2.2).
fn authority(target: &str) -> Option<&str> {
    let (scheme, after) = target.split_once("://")?;
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_web.then(|| &after[..after.find(['/', '?', '#']).unwrap_or(after.len())])
}

/// The host of an authority (RFC 3986, 3.2), without who asks for it.
fn without_port(authority: &str) -> Option<String> {
    let (host, after) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, after)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if !after.is_empty() && !after.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let host = host.to_ascii_lowercase();
    let is_host = authority.starts_with('[')
        || host.parse::<Ipv4Addr>().is_ok()
        || is_name(host.strip_suffix('.').unwrap_or(&host));
    is_host.then_some(host)
}

/// A character of a method or the name of a field (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
