//! What happened at the edge of a machine.

use crate::Inside;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What the guest spoke, or wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
    /// An echo request.
    Icmp,
    /// A question for an address.
    Dns,
    /// A request, in a connection that was looked into.
    Http,
    /// Anything else.
    Other,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As it is written in records.
        self.serialize(f)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Happened {
    /// Something went out.
    #[serde(rename = "egress_allow")]
    Allow,
    /// Something did not.
    #[serde(rename = "egress_deny")]
    Deny,
    /// A connection is over.
    #[serde(rename = "egress_close")]
    Close,
    /// What was allowed did not come about: the other end, or the network, did not let it.
    #[serde(rename = "egress_error")]
    Error,
    /// A credential took the place of its placeholder.
    #[serde(rename = "egress_swap")]
    Swap,
    /// A credential was needed and could not be had: the request was refused.
    #[serde(rename = "egress_swap_error")]
    SwapError,
    /// Things that happened too fast to be written down one by one, or could not be: how many, is in the detail.
    #[serde(rename = "egress_left_out")]
    LeftOut,
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As it is written in records.
        self.serialize(f)
    }
}

/// Why something was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The name is on no list.
    NotListed,
    /// The address is none that our resolver gave for a name.
    NoName,
    /// The name that was said is none of the address's.
    NameMismatch,
    /// No name was said.
    NoServerName,
    /// The name that was said may not be the one that is meant.
    EncryptedHello,
    /// The address is not of the public internet.
    Inside(Inside),
    /// A resolver that is not ours.
    ForeignResolver,
    /// A question for addresses in the shape of a web request.
    DnsOverHttps,
    /// HTTP over QUIC, which cannot be looked into.
    Quic,
    /// Neither TLS nor HTTP, to a host that is to be looked into.
    NotInspectable,
    /// A protocol that has no place here.
    Protocol,
    /// A placeholder that nothing took the place of.
    Placeholder,
    /// A request that is not well-formed, or could be read in two ways.
    Malformed,
    /// A tunnel through a host that is looked into.
    Tunnel,
    /// The certificate of the server does not hold.
    Certificate,
    /// More at once than one machine may have.
    TooMany,
}

impl Reason {
    const PLAIN: [(Reason, &'static str); 15] = [
        (Reason::NotListed, "not-listed"),
        (Reason::NoName, "no-name"),
        (Reason::NameMismatch, "name-mismatch"),
        (Reason::NoServerName, "no-server-name"),
        (Reason::EncryptedHello, "encrypted-hello"),
        (Reason::ForeignResolver, "foreign-resolver"),
        (Reason::DnsOverHttps, "dns-over-https"),
        (Reason::Quic, "quic"),
        (Reason::NotInspectable, "not-inspectable"),
        (Reason::Protocol, "unmediatable-protocol"),
        (Reason::Placeholder, "placeholder"),
        (Reason::Malformed, "malformed"),
        (Reason::Tunnel, "tunnel"),
        (Reason::Certificate, "certificate"),
        (Reason::TooMany, "too-many"),
    ];
    const INSIDE: [(Inside, &'static str); 9] = [
        (Inside::Unspecified, "inside-unspecified"),
        (Inside::Loopback, "inside-loopback"),
        (Inside::LinkLocal, "inside-link-local"),
        (Inside::Private, "inside-private"),
        (Inside::SharedNat, "inside-shared-nat"),
        (Inside::UniqueLocal, "inside-unique-local"),
        (Inside::Multicast, "inside-multicast"),
        (Inside::Reserved, "inside-reserved"),
        (Inside::Host, "inside-host"),
    ];

    /// As it is written in records.
    pub fn name(self) -> &'static str {
        if let Reason::Inside(class) = self {
            return Reason::INSIDE.iter().find(|(of, _)| *of == class).map_or("inside", |(_, name)| name);
        }
        Reason::PLAIN.iter().find(|(of, _)| *of == self).map_or("denied", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Reason> {
        let inside = Reason::INSIDE.iter().find(|(_, of)| *of == name).map(|(class, _)| Reason::Inside(*class));
        inside.or_else(|| Reason::PLAIN.iter().find(|(_, of)| *of == name).map(|(reason, _)| *reason))
    }

    /// What to do about it, for somebody who wants it allowed.
    pub fn hint(self) -> &'static str {
        match self {
            Reason::NotListed => "allow the host with `--egress-allow`",
            Reason::NoName => {
                "connect by name: an address counts only when the workspace's resolver gave it for an allowed name"
            }
            Reason::NameMismatch => "the name in the request and the name that was looked up have to be the same",
            Reason::NoServerName => "the client has to name the server, by SNI or `Host`",
            Reason::EncryptedHello => "switch encrypted client hello off in the client",
            Reason::Inside(class) if class.can_be_listed() => "allow the host with `--egress-allow`, if that is meant",
            Reason::Inside(_) => "a service of the host is reached by `--mediation`",
            Reason::ForeignResolver | Reason::DnsOverHttps => "use the resolver in `/etc/resolv.conf`",
            Reason::Quic => "use HTTP over TCP",
            Reason::NotInspectable => "forward the host as it is with `--egress-passthrough`",
            Reason::Protocol => "use IPv4 with TCP or UDP",
            Reason::Placeholder => {
                "it belongs in the header that its `--cred-swap` puts the credential into, at a host that has one"
            }
            Reason::Malformed => "the client's request is not valid HTTP",
            Reason::Tunnel => "connect to the other host itself",
            Reason::Certificate => "the server has to have a valid certificate for its name",
            Reason::TooMany => "close some connections first",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotListed => f.write_str("the host is on no list"),
            Reason::NoName => f.write_str("the address belongs to no name that was looked up"),
            Reason::NameMismatch => f.write_str("the name that was said is not one of that address"),
            Reason::NoServerName => f.write_str("the connection names no server"),
            Reason::EncryptedHello => f.write_str("the connection hides which server it means"),
            Reason::Inside(class) => write!(f, "it is {class}"),
            Reason::ForeignResolver => f.write_str("it is a resolver other than the workspace's"),
            Reason::DnsOverHttps => f.write_str("it asks for addresses past the workspace's resolver"),
            Reason::Quic => f.write_str("QUIC cannot be looked into"),
            Reason::NotInspectable => f.write_str("it is neither TLS nor HTTP"),
            Reason::Protocol => f.write_str("the protocol is not passed on"),
            Reason::Placeholder => f.write_str("it carries a placeholder in the place of a credential"),
            Reason::Malformed => f.write_str("the request is malformed"),
            Reason::Tunnel => f.write_str("it asks for a tunnel"),
            Reason::Certificate => f.write_str("the server's certificate does not hold"),
            Reason::TooMany => f.write_str("there are too many at once"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
        let name = String::deserialize(deserializer)?;
        Reason::named(&name).ok_or_else(|| serde::de::Error::custom(format!("unknown reason `{name}`")))
    }
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: jiff::Timestamp,
    /// What.
    pub event: Happened,
    /// What was spoken.
    pub protocol: Protocol,
    /// The name of the other end, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Why it was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// More about it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether the connection is looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intercepted: Option<bool>,
    /// Bytes from the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// Bytes to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Name of the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl Event {
    /// That `event` happened now, and nothing else about it.
    pub fn now(event: Happened, protocol: Protocol) -> Event {
        Event {
            at: jiff::Timestamp::now(),
            event,
            protocol,
            host: None,
            address: None,
            port: None,
            reason: None,
            detail: None,
            intercepted: None,
            bytes_sent: None,
            bytes_received: None,
            credential: None,
        }
    }

    /// That something was denied.
    pub fn deny(protocol: Protocol, reason: Reason) -> Event {
        Event { reason: Some(reason), ..Event::now(Happened::Deny, protocol) }
    }

    /// Of that other end.
    #[must_use]
    pub fn with(self, host: Option<String>, to: SocketAddr) -> Event {
        Event { host, address: Some(to.ip()), port: Some(to.port()), ..self }
    }

    /// Of that name.
    #[must_use]
    pub fn of_host(self, host: &str) -> Event {
        Event { host: Some(host.to_owned()), ..self }
    }

    /// The other end, as a person would name it.
    pub fn peer(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        let peer = self.host.clone().or(address).unwrap_or_else(|| "-".to_owned());
        self.port.map_or(peer.clone(), |port| format!("{peer}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_written_in_its_own_way_and_read_again() {
        let inside = Reason::INSIDE.iter().map(|(class, _)| Reason::Inside(*class));
        let all: Vec<Reason> = Reason::PLAIN.iter().map(|(reason, _)| *reason).chain(inside).collect();
        for reason in &all {
            assert_eq!(Reason::named(reason.name()), Some(*reason));
            assert!(!reason.hint().is_empty() && !reason.to_string().is_empty());
        }
        let names: std::collections::BTreeSet<_> = all.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn what_happened_is_shown_as_it_is_written_and_fills_its_column() {
        assert_eq!(format!("{:<17}|{:<5}|", Happened::SwapError, Protocol::Tcp), "egress_swap_error|tcp  |");
        assert_eq!(format!("{:<17}|", Happened::Deny), "egress_deny      |");
        assert_eq!(serde_json::to_string(&Happened::Deny).unwrap(), "\"egress_deny\"");
    }

    #[test]
    fn a_line_says_what_is_known_and_nothing_else() {
        let event = Event::deny(Protocol::Tcp, Reason::Inside(Inside::LinkLocal))
            .with(None, "169.254.169.254:80".parse().unwrap());
        let line = serde_json::to_string(&event).unwrap();
        let rest = r#""event":"egress_deny","protocol":"tcp","address":"169.254.169.254","port":80,"reason":"inside-link-local"}"#;
        assert!(line.ends_with(rest), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
