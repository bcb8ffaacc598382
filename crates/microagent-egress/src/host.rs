//! Names of hosts, and patterns of them.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest name of a host (RFC 1035, 2.3.4, without the trailing dot).
const MAX_NAME: usize = 253;
/// Longest part of it.
const MAX_LABEL: usize = 63;

/// A pattern of hosts: a name, `.` and a name for that and everything below it, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// This name.
    Exact(String),
    /// This name, and every name that ends with a dot and it.
    Suffix(String),
    /// This address.
    Address(IpAddr),
}

impl Host {
    /// Whether `name`, in any case and with or without its trailing dot, is one of these.
    pub fn has_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self {
            Host::Exact(exact) => name.eq_ignore_ascii_case(exact),
            Host::Suffix(suffix) => {
                let Some(before) = name.len().checked_sub(suffix.len()) else { return false };
                name.is_char_boundary(before)
                    && name[before..].eq_ignore_ascii_case(suffix)
                    && (before == 0 || name[..before].ends_with('.'))
            }
            Host::Address(_) => false,
        }
    }

    /// Whether there is something that is one of both.
    pub fn meets(&self, other: &Host) -> bool {
        match (self, other) {
            // A suffix has the name that it is written with.
            (Host::Exact(own) | Host::Suffix(own), Host::Exact(name) | Host::Suffix(name)) => {
                self.has_name(name) || other.has_name(own)
            }
            _ => self == other,
        }
    }

    /// Whether it is that address. An IPv4 address that is written as an IPv6 one is the IPv4 address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        matches!(self, Host::Address(own) if own.to_canonical() == address.to_canonical())
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Host, Error> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bracketed.unwrap_or(text).parse::<IpAddr>() {
            return Ok(Host::Address(address.to_canonical()));
        }
        let bad = |reason: &str| Error::BadHost { host: text.to_owned(), reason: reason.to_owned() };
        if text.contains("://") || text.contains('/') {
            return Err(bad("it is to be the name of a host, without scheme and path"));
        }
        if text.contains('*') {
            return Err(bad("a leading dot stands for a name and everything below it, as in `.example.com`"));
        }
        if text.contains(':') {
            return Err(bad("it is to be the name of a host, without a port"));
        }
        let (name, is_suffix) = match text.strip_prefix('.') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !is_name(&name) {
            return Err(bad("a name is letters, digits, `-` and `_` in parts of at most 63, joined by dots"));
        }
        if is_suffix && !name.contains('.') && name != "localhost" {
            return Err(bad("a whole top-level domain is more than anybody means to allow"));
        }
        if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(bad("it looks like an address and is none"));
        }
        Ok(if is_suffix { Host::Suffix(name) } else { Host::Exact(name) })
    }
}

/// Whether `text` can be the name of a host.
pub fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= MAX_NAME && text.split('.').all(label)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Exact(name) => f.write_str(name),
            Host::Suffix(name) => write!(f, ".{name}"),
            Host::Address(address) => write!(f, "{address}"),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = Error;

    fn try_from(text: String) -> Result<Host, Error> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_meet_in_a_name_of_both() {
        let hosts = ["x.example", ".x.example", "a.x.example", ".a.x.example", "192.0.2.1"];
        for (one, other, meet) in [
            (0, 0, true),
            (0, 1, true),
            (1, 2, true),
            (1, 3, true),
            (2, 3, true),
            (4, 4, true),
            (0, 2, false),
            (0, 3, false),
            (1, 4, false),
        ] {
            let (one, other) = (host(hosts[one]), host(hosts[other]));
            assert_eq!((one.meets(&other), other.meets(&one)), (meet, meet), "{one} {other}");
        }
    }

    #[test]
    fn a_name_is_itself_alone_and_a_suffix_what_is_below_it_too() {
        assert!(host("api.example.com").has_name("API.example.com."));
        assert!(!host("api.example.com").has_name("x.api.example.com"));
        for name in ["example.com", "a.example.com", "a.b.EXAMPLE.com"] {
            assert!(host(".example.com").has_name(name), "{name}");
        }
        for name in ["badexample.com", "example.com.evil.net", "com", ""] {
            assert!(!host(".example.com").has_name(name), "{name}");
        }
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        assert!(host("192.0.2.1").has_address("::ffff:192.0.2.1".parse().unwrap()));
        assert!(host("[2001:db8::1]").has_address("2001:db8::1".parse().unwrap()));
        assert!(!host("192.0.2.1").has_name("192.0.2.1"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "*.example.com",
            "https://example.com",
            "example.com:443",
            "a..b",
            "1.2.3",
            ".com",
            "a b",
            "ü.de",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_as_the_same(text in "\\.?[a-z0-9._:-]{1,40}", name in "\\PC{0,30}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host.clone());
                host.has_name(&name);
            }
        }
    }
}
