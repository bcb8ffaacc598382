//! Addresses that are not of the public internet.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is none of the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inside {
    /// `0.0.0.0/8` and `::`: this host, to whoever asks.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`, `168.63.129.16`: the metadata services of clouds are there.
    LinkLocal,
    /// `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16` (RFC 1918), and what is set aside for tests inside a network (RFC 2544) and for
    /// protocols (RFC 6890).
    Private,
    /// `100.64.0.0/10` (RFC 6598).
    SharedNat,
    /// `fc00::/7` (RFC 4193), and what was site-local.
    UniqueLocal,
    /// To many.
    Multicast,
    /// To everybody, or reserved (RFC 1112).
    Reserved,
    /// One of the host's own.
    Host,
}

impl Inside {
    /// What `address` is, on a host with the addresses `own`.
    pub fn of(address: IpAddr, own: &[IpAddr]) -> Option<Inside> {
        let address = address.to_canonical();
        let class = match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6, own),
        };
        match class {
            Some(class) if !class.can_be_listed() => Some(class),
            // Whoever lists a private network does not mean the host, which most often is in one.
            other => own.iter().any(|own| own.to_canonical() == address).then_some(Inside::Host).or(other),
        }
    }

    /// Whether a user who lists a host that is there means it. Nobody means his own host, or a metadata service.
    pub fn can_be_listed(self) -> bool {
        matches!(self, Inside::Private | Inside::SharedNat | Inside::UniqueLocal)
    }
}

fn of_v4(address: Ipv4Addr) -> Option<Inside> {
    let class = match address.octets() {
        [0, ..] => Inside::Unspecified,
        [127, ..] => Inside::Loopback,
        // The last is that of Azure, which is no address of a link.
        [169, 254, ..] | [168, 63, 129, 16] => Inside::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [198, 18..=19, ..] | [192, 0, 0, _] => Inside::Private,
        [100, 64..=127, ..] => Inside::SharedNat,
        [224..=239, ..] => Inside::Multicast,
        [240..=255, ..] => Inside::Reserved,
        _ => return None,
    };
    Some(class)
}

fn of_v6(address: Ipv6Addr, own: &[IpAddr]) -> Option<Inside> {
    let segments = address.segments();
    let class = match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Inside::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Inside::Loopback,
        [0xfe80..=0xfebf, ..] => Inside::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Inside::UniqueLocal,
        [0xff00..=0xffff, ..] => Inside::Multicast,
        // An IPv4 address in disguise: translated (RFC 6052), of a tunnel (RFC 3056), or compatible (RFC 4291).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] | [0, 0, 0, 0, 0, 0, high, low] => {
            let v4 = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
            return Inside::of(v4.into(), own);
        }
        // Translated within one network (RFC 8215), Teredo (RFC 4380), discard (RFC 6666).
        [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] | [0x100, 0, 0, 0, ..] => Inside::Reserved,
        _ => return None,
    };
    Some(class)
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Inside::Unspecified => "the unspecified address",
            Inside::Loopback => "a loopback address",
            Inside::LinkLocal => "a link-local address, where metadata services are",
            Inside::Private | Inside::UniqueLocal => "an address of a private network",
            Inside::SharedNat => "an address of a provider's network",
            Inside::Multicast => "a multicast address",
            Inside::Reserved => "a reserved address",
            Inside::Host => "an address of the host itself",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_known_in_every_disguise() {
        let own = ["203.0.113.7".parse().unwrap(), "192.168.0.9".parse().unwrap()];
        let cases = [
            ("127.0.0.1", Some(Inside::Loopback)),
            ("::ffff:127.0.0.1", Some(Inside::Loopback)),
            ("64:ff9b::7f00:1", Some(Inside::Loopback)),
            ("2002:7f00:1::", Some(Inside::Loopback)),
            ("::7f00:1", Some(Inside::Loopback)),
            ("0.0.0.0", Some(Inside::Unspecified)),
            ("0.1.2.3", Some(Inside::Unspecified)),
            ("169.254.169.254", Some(Inside::LinkLocal)),
            ("fe80::1", Some(Inside::LinkLocal)),
            ("10.1.2.3", Some(Inside::Private)),
            ("172.31.255.255", Some(Inside::Private)),
            ("172.32.0.1", None),
            ("192.168.0.1", Some(Inside::Private)),
            ("192.168.0.9", Some(Inside::Host)),
            ("168.63.129.16", Some(Inside::LinkLocal)),
            ("100.64.0.1", Some(Inside::SharedNat)),
            ("100.128.0.1", None),
            ("fd00::1", Some(Inside::UniqueLocal)),
            ("224.0.0.1", Some(Inside::Multicast)),
            ("ff02::1", Some(Inside::Multicast)),
            ("255.255.255.255", Some(Inside::Reserved)),
            ("203.0.113.7", Some(Inside::Host)),
            ("::ffff:203.0.113.7", Some(Inside::Host)),
            ("203.0.113.8", None),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
            ("2606:4700::1", None),
        ];
        for (address, class) in cases {
            assert_eq!(Inside::of(address.parse().unwrap(), &own), class, "{address}");
        }
    }
}
