//! One proxy.

use super::ProxyError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use microagent_egress::is_name;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Port where the value names none: that of its scheme.
const DEFAULT_PORT: u16 = 80;

/// A proxy of HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyServer {
    /// Its name, or its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Value of `Proxy-Authorization`.
    pub(super) authorization: Option<Zeroizing<String>>,
}

impl ProxyServer {
    /// The one that `value`, of the variable of the environment that is called `variable`, names.
    pub(super) fn parse(variable: &'static str, value: &str) -> Result<ProxyServer, ProxyError> {
        let bad = |reason| ProxyError::BadValue { variable, reason };
        let rest = match value.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(bad("only proxies that are spoken with by plain HTTP, `http://`, are known")),
            None => value,
        };
        let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(None) => return Err(bad("the bracket before the address is not closed")),
            Some(Some((host, after))) => (host, after),
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        if !is_name(host) && host.parse::<IpAddr>().is_err() {
            return Err(bad("it names no host"));
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => DEFAULT_PORT,
            Some("") => DEFAULT_PORT,
            Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| bad("the port is none"))?,
            None => return Err(bad("something follows the address")),
        };
        Ok(ProxyServer { host: host.to_ascii_lowercase(), port, authorization: user.map(basic) })
    }
}

/// As RFC 7617 has it.
fn basic(user: &str) -> Zeroizing<String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = Zeroizing::new(Vec::with_capacity(user.len() + 1));
    plain.extend(percent_decode_str(name));
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    Zeroizing::new(format!("Basic {}", STANDARD.encode(&*plain)))
}

impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorization = if self.authorization.is_some() { "<hidden>" } else { "none" };
        f.debug_struct("ProxyServer")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("authorization", &format_args!("{authorization}"))
            .finish()
    }
}
