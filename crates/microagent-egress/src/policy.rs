//! Decisions.

use crate::{Error, Host, Inside, Mode, Protocol, Reason, Rules};
use std::net::{IpAddr, SocketAddr};

/// Ports of resolvers: DNS (RFC 1035) and DNS over TLS or QUIC (RFC 7858, 9250).
const RESOLVER_PORTS: [u16; 2] = [53, 853];
/// Ports on which the client speaks first, and says whom it means.
const WEB_PORTS: [u16; 4] = [80, 443, 8080, 8443];
/// Port of HTTP over QUIC, as every client assumes it.
const QUIC_PORT: u16 = 443;

/// The rules of a workspace, on a host.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Rules,
    own: Vec<IpAddr>,
}

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Allow(Handling),
    /// It does not.
    Deny(Reason),
}

impl Verdict {
    /// Whether it goes out.
    pub fn is_allowed(self) -> bool {
        matches!(self, Verdict::Allow(_))
    }
}

/// What is looked at of what goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Nothing.
    Opaque,
    /// How it opens: see [`Policy::opening`].
    Inspect,
}

/// How a connection opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening<'a> {
    /// With a TLS `ClientHello`.
    Tls {
        /// The server it names.
        name: Option<&'a str>,
        /// Whether it carries another, encrypted one.
        encrypted: bool,
    },
    /// With a request of HTTP/1, or the preface of HTTP/2, which names nobody yet.
    Http {
        /// The host it names, without a port.
        host: Option<&'a str>,
    },
    /// With something else, or nothing for a while: the server speaks first.
    Other,
}

/// Where a connection goes whose opening is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the server as it is.
    Opaque,
    /// Through the interceptor, as one to this name.
    Intercept(String),
    /// Nowhere.
    Deny(Reason),
}

impl Policy {
    /// These rules on a host that has the addresses `own`.
    pub fn new(rules: Rules, own: Vec<IpAddr>) -> Result<Policy, Error> {
        rules.check()?;
        Ok(Policy { rules, own })
    }

    /// What it was made of.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the guest may know the address of `name`.
    pub fn lookup(&self, name: &str) -> Verdict {
        if self.rules.mode == Mode::Strict && !self.lists(name) {
            return Verdict::Deny(Reason::NotListed);
        }
        Verdict::Allow(Handling::Opaque)
    }

    /// Whether the guest may speak `protocol` with `to`. `names` are those our own resolver gave this address for, and whose time is not
    /// up.
    pub fn connect(&self, protocol: Protocol, to: SocketAddr, names: &[String]) -> Verdict {
        if self.rules.mode == Mode::Off {
            return Verdict::Allow(Handling::Opaque);
        }
        let by_address = self.listed().any(|host| host.has_address(to.ip()));
        let by_name = names.iter().any(|name| self.lists(name));
        // An address that is listed takes nothing from a name that is looked into, and may have a credential.
        let is_intercepted = names.iter().any(|name| self.intercepts(name));
        if let Some(class) = Inside::of(to.ip(), &self.own)
            && !(class.can_be_listed() && (by_address || by_name))
        {
            return Verdict::Deny(Reason::Inside(class));
        }
        let is_flow = matches!(protocol, Protocol::Tcp | Protocol::Udp);
        if is_flow && RESOLVER_PORTS.contains(&to.port()) && !by_address {
            return Verdict::Deny(Reason::ForeignResolver);
        }
        if protocol == Protocol::Udp && to.port() == QUIC_PORT && (is_intercepted || !by_address) {
            return Verdict::Deny(Reason::Quic);
        }
        if self.rules.mode == Mode::Strict {
            if !by_address && !by_name {
                return Verdict::Deny(if names.is_empty() { Reason::NoName } else { Reason::NotListed });
            }
            let opaquely = by_address || names.iter().any(|name| self.passes_through(name));
            if protocol != Protocol::Tcp && !opaquely {
                return Verdict::Deny(Reason::NotInspectable);
            }
        }
        // Of several names of one address, the guest says which it means.
        let is_ambiguous = names.len() > 1 && WEB_PORTS.contains(&to.port());
        let is_inspected = is_intercepted || (!by_address && (by_name || is_ambiguous));
        let inspected = protocol == Protocol::Tcp && is_inspected;
        Verdict::Allow(if inspected { Handling::Inspect } else { Handling::Opaque })
    }

    /// Where a connection goes that [`Policy::connect`] wants inspected, to an address with these `names`.
    pub fn opening(&self, to: SocketAddr, names: &[String], opening: Opening<'_>) -> Route {
        // Where nothing is allowed but by its name, the name has to be said, and to be one of the address.
        let by_address = self.listed().any(|host| host.has_address(to.ip()));
        let by_name_alone =
            !by_address && (self.rules.mode == Mode::Strict || Inside::of(to.ip(), &self.own).is_some());
        let otherwise = |reason| if by_name_alone { Route::Deny(reason) } else { Route::Opaque };
        let (said, encrypted) = match opening {
            Opening::Tls { name, encrypted } => (name, encrypted),
            Opening::Http { host } => (host, false),
            Opening::Other if names.iter().any(|name| self.passes_through(name)) => return Route::Opaque,
            Opening::Other => return otherwise(Reason::NotInspectable),
        };
        let Some(said) = said else { return otherwise(Reason::NoServerName) };
        let said = said.strip_suffix('.').unwrap_or(said).to_ascii_lowercase();
        if !names.contains(&said) {
            return otherwise(Reason::NameMismatch);
        }
        if self.passes_through(&said) {
            return if encrypted { otherwise(Reason::EncryptedHello) } else { Route::Opaque };
        }
        if self.allows(&said) {
            return Route::Intercept(said);
        }
        otherwise(Reason::NotListed)
    }

    /// Whether connections to `name` are looked into.
    pub fn intercepts(&self, name: &str) -> bool {
        self.rules.mode != Mode::Off && self.allows(name) && !self.passes_through(name)
    }

    fn listed(&self) -> impl Iterator<Item = &Host> {
        self.rules.allow.iter().chain(&self.rules.passthrough)
    }

    fn lists(&self, name: &str) -> bool {
        self.listed().any(|host| host.has_name(name))
    }

    fn allows(&self, name: &str) -> bool {
        self.rules.allow.iter().any(|host| host.has_name(name))
    }

    fn passes_through(&self, name: &str) -> bool {
        self.rules.passthrough.iter().any(|host| host.has_name(name))
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
