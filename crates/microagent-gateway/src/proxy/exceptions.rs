//! What goes past the proxies. There is no standard for `NO_PROXY`; this is what is common to curl, Go and Python.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A list of hosts.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceptions(Vec<(Target, Option<u16>)>);

#[derive(Clone, Debug)]
enum Target {
    Everything,
    /// This name, and all below it.
    Name(String),
    /// All addresses that begin with as many of these bits.
    Network(IpAddr, u8),
}

impl Exceptions {
    /// The hosts in the value of `NO_PROXY`. What in it makes no sense excepts nothing.
    pub(super) fn parse(value: &str) -> Exceptions {
        Exceptions(value.split([',', ' ']).filter(|entry| !entry.is_empty()).filter_map(exception).collect())
    }

    /// Whether a connection to `address`, which has this `name`, is one. Nobody's proxy leads to this host itself.
    pub(super) fn include(&self, name: Option<&str>, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
        let is_target = |target: &Target| match target {
            Target::Everything => true,
            Target::Name(suffix) => name.as_deref().is_some_and(|name| is_below(name, suffix)),
            Target::Network(network, bits) => has_prefix(ip, *network, *bits),
        };
        ip.is_loopback()
            || self.0.iter().any(|(target, port)| port.is_none_or(|port| port == address.port()) && is_target(target))
    }
}

fn exception(entry: &str) -> Option<(Target, Option<u16>)> {
    if entry == "*" {
        return Some((Target::Everything, None));
    }
    if let Some(network) = network(entry) {
        return Some((network, None));
    }
    if let Some((address, port)) = entry.parse::<SocketAddr>().ok().map(|socket| (socket.ip(), socket.port())) {
        return Some((whole(address), Some(port)));
    }
    let bracketed = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = bracketed.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        return Some((whole(address.into()), None));
    }
    let (name, port) = match entry.split_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    let name = name.strip_prefix('*').unwrap_or(name).trim_matches('.').to_ascii_lowercase();
    (!name.is_empty()).then_some((Target::Name(name), port))
}

/// An address, or a network as in `10.0.0.0/8`.
fn network(part: &str) -> Option<Target> {
    let Some((address, bits)) = part.split_once('/') else { return part.parse().ok().map(whole) };
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse().ok()?);
    (bits <= width(address)).then_some(Target::Network(address, bits))
}

fn whole(address: IpAddr) -> Target {
    let address = address.to_canonical();
    Target::Network(address, width(address))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn has_prefix(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let differing = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
        _ => return false,
    };
    differing.leading_zeros() >= u32::from(bits)
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}
