//! Parsers of hostile bytes, for those who make such bytes up.

mod wire;

pub use wire::{Said, Wire};

use crate::dns::{Transport, id_of, parse_query, parse_reply};
use crate::ethernet::{self, Frame, Kind};
use crate::icmp::Echo;
use crate::ipv4::Packet;
use crate::tcp::Segment;
use crate::udp::Datagram;
use crate::{dhcp, ipv4};
use simple_dns::{CLASS, Name, QCLASS, QTYPE, Question, TYPE};

/// Parses what a guest asks, and makes an answer.
pub fn dns_query(bytes: &[u8], transport: Transport) -> Vec<u8> {
    match parse_query(bytes, transport) {
        Ok(query) => query.refused(),
        Err(answer) => answer,
    }
}

/// Parses what a server answers about `example.com`, under the number that is in the answer.
pub fn dns_reply(bytes: &[u8]) {
    let id = id_of(bytes).unwrap_or_default();
    for kind in [TYPE::A, TYPE::TXT, TYPE::MX, TYPE::SRV, TYPE::PTR, TYPE::SOA] {
        let name = Name::new_unchecked("example.com");
        let question = Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
        drop(parse_reply(bytes, id, &question));
    }
}

/// Reads a frame as far down as it goes: what it carries, and what that carries.
pub fn frame(bytes: &[u8]) {
    let Frame::Of(Kind::Ipv4, packet) = ethernet::open(bytes) else { return };
    let Ok(packet) = Packet::read(packet) else { return };
    match packet.protocol {
        ipv4::TCP => {
            if let Some(segment) = Segment::read(&packet) {
                assert!(Packet::read(&segment.headers(&packet)).is_ok());
            }
        }
        ipv4::UDP => {
            let answer = Datagram::read(packet.payload).and_then(|datagram| dhcp::answer(datagram.data));
            assert!(answer.is_none_or(|answer| answer.len() < 1000));
        }
        _ => drop(Echo::request(packet.payload).map(Echo::to_send)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{GATEWAY_MAC, GUEST_MAC};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_frame_is_too_odd(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), protocol in prop_oneof![Just(1u8), Just(6), Just(17)]) {
            frame(&bytes);
            let length = u16::try_from(bytes.len()).unwrap();
            if let Some(header) = bytes.first_chunk_mut::<20>() {
                ipv4::write_header(header, crate::address::GUEST, [192, 0, 2, 1].into(), protocol, usize::from(length) - 20);
            }
            frame(&[&GATEWAY_MAC[..], &GUEST_MAC, &[8, 0], &bytes].concat());
        }
    }
}
