//! What attempts to get past a policy are made of.

#![allow(dead_code, reason = "each test binary uses its part")]

use crate::world::World;
use microagent_egress::{Mode, Rules};
use microagent_testing::Kind;
use std::net::Ipv4Addr;

/// Rules that allow what is listed, and nothing else.
pub(crate) fn strict(allow: &[&str], passthrough: &[&str]) -> Rules {
    let hosts = |list: &[&str]| list.iter().map(|host| host.parse().unwrap()).collect();
    Rules { mode: Mode::Strict, allow: hosts(allow), passthrough: hosts(passthrough) }
}

/// Rules that allow the internet, and what is listed.
pub(crate) fn guarded(allow: &[&str]) -> Rules {
    Rules { mode: Mode::Guarded, ..strict(allow, &[]) }
}

/// That nobody at `address`, which may be connected with, was told anything.
pub(crate) fn assert_unspoken(world: &World, address: &str) {
    let address: Ipv4Addr = address.parse().unwrap();
    for seen in world.internet().seen_at(address) {
        let silent = match seen.kind {
            Kind::Packet | Kind::Connect => true,
            // A handshake that ended before it began.
            Kind::TlsFailed => seen.text("name").is_empty(),
            Kind::Close => seen.number("received") == 0,
            _ => false,
        };
        assert!(silent, "{seen}");
    }
}

/// A `ClientHello` (RFC 8446, 4.1.2), as far as anybody reads it who only wants to know whom it is for.
pub(crate) struct Hello {
    pub(crate) name: String,
    pub(crate) encrypted: bool,
}

impl Hello {
    pub(crate) fn to(name: &str) -> Hello {
        Hello { name: name.to_owned(), encrypted: false }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut name = vec![0];
        name.extend(counted(self.name.as_bytes()));
        let mut extensions = extension(0, &counted(&name));
        if self.encrypted {
            extensions.extend(extension(0xfe0d, &[7; 100]));
        }
        let mut hello = vec![3, 3];
        hello.extend([9; 32]);
        hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
        hello.extend(counted(&extensions));
        let mut handshake = vec![1, 0];
        handshake.extend(counted(&hello));
        let mut record = vec![22, 3, 1];
        record.extend(counted(&handshake));
        record
    }
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted(data)].concat()
}

/// `bytes` after their number in two bytes.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let count = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&count[..], bytes].concat()
}

/// An IPv4 packet from `from`, with that many and those bytes of a protocol.
pub(crate) fn packet(from: &str, to: &str, protocol: u8, flags: u16, payload: &[u8]) -> Vec<u8> {
    let (from, to): (Ipv4Addr, Ipv4Addr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(flags.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A datagram.
pub(crate) fn datagram(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data].concat()
}

/// A segment that opens a connection.
pub(crate) fn syn(from: u16, to: u16) -> Vec<u8> {
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]].concat()
}
