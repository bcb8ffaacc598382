//! What a request has to be, whatever is done with it afterwards.

use crate::connection::Connection;
use crate::denial::Denial;
use crate::limits::{HEAD_BYTES, HEAD_FIELDS};
use hyper::http::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::http::request::Parts;
use hyper::http::uri::Scheme;
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use microagent_egress::Reason;

/// Where resolvers answer over HTTP (RFC 8484, 4.1 leaves the path open; every public one has this).
const DNS_PATH: &str = "/dns-query";
/// What such questions and answers are (RFC 8484, 6), and the form in JSON that two large ones offer.
const DNS_TYPES: [&str; 2] = ["application/dns-message", "application/dns-json"];

/// Fails where the request is not one for the host of `connection`, or none that is passed on.
pub(crate) fn check(parts: &Parts, connection: &Connection) -> Result<(), Denial> {
    let length: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if parts.headers.len() > HEAD_FIELDS || length > HEAD_BYTES {
        return Err(Denial::TooLarge);
    }
    if parts.method == Method::CONNECT {
        return Err(Denial::Denied(Reason::Tunnel, None));
    }
    check_host(parts, connection)?;
    if asks_for_addresses(&parts.uri, &parts.headers) {
        return Err(Denial::Denied(Reason::DnsOverHttps, None));
    }
    Ok(())
}

fn check_host(parts: &Parts, connection: &Connection) -> Result<(), Denial> {
    let malformed = |detail: &str| Err(Denial::with(Reason::Malformed, detail));
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return malformed("it has more than one `Host`");
    }
    let authority = parts.uri.authority();
    if let Some(scheme) = parts.uri.scheme()
        && *scheme != (if connection.tls { Scheme::HTTPS } else { Scheme::HTTP })
    {
        return malformed("its scheme is not that of the connection");
    }
    if parts.version < Version::HTTP_2 {
        let Some(host) = host else { return malformed("it has no `Host`") };
        if let Some(authority) = authority
            && !is_for(authority.as_str().as_bytes(), connection)
        {
            return malformed("its target is on another host");
        }
        return if is_for(host.as_bytes(), connection) { Ok(()) } else { Err(elsewhere(host.as_bytes())) };
    }
    let named = [authority.map(|authority| authority.as_str().as_bytes()), host.map(HeaderValue::as_bytes)];
    if named.iter().all(Option::is_none) {
        return malformed("it names no host");
    }
    match named.into_iter().flatten().find(|named| !is_for(named, connection)) {
        Some(named) => Err(elsewhere(named)),
        None => Ok(()),
    }
}

fn elsewhere(named: &[u8]) -> Denial {
    let named: String = String::from_utf8_lossy(named).chars().filter(|c| !c.is_control()).take(253).collect();
    Denial::with(Reason::NameMismatch, format!("it names `{named}`"))
}

/// Whether `authority` is the host of `connection`, with its port or none. (The name is bound to an address and the port to a socket: a
/// request cannot go anywhere else. It is the server that must not be told of another one.)
fn is_for(authority: &[u8], connection: &Connection) -> bool {
    let Ok(text) = std::str::from_utf8(authority) else { return false };
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let name = name.strip_suffix('.').unwrap_or(name);
    let default = if connection.tls { 443 } else { 80 };
    let is_port = |text: &str| {
        let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.parse().is_ok_and(|port: u16| port == connection.address.port() || port == default)
    };
    name.eq_ignore_ascii_case(&connection.name) && port.is_none_or(is_port)
}

fn asks_for_addresses(uri: &Uri, fields: &HeaderMap) -> bool {
    let path: Vec<u8> = percent_encoding::percent_decode_str(uri.path()).collect();
    let is_path = path.strip_suffix(b"/").unwrap_or(&path).eq_ignore_ascii_case(DNS_PATH.as_bytes());
    let says = |name: &HeaderName| {
        fields.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            let value = value.to_ascii_lowercase();
            DNS_TYPES.iter().any(|kind| value.contains(kind))
        })
    };
    is_path || says(&CONTENT_TYPE) || says(&ACCEPT)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
