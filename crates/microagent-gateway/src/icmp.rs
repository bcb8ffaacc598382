//! Control messages (RFC 792): echoes, and why something did not arrive.

use crate::address::{GATEWAY, GUEST};
use crate::ipv4;
use crate::link::Outbox;
use smoltcp::wire::Icmpv4Packet;
use std::net::Ipv4Addr;

/// Bytes of the header.
pub(crate) const HEADER: usize = 8;
const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
/// Most bytes of a packet that a message quotes: what is of use to a host (RFC 1812, 4.3.2.3, allows more).
const QUOTED: usize = 128;

/// What cannot be reached (RFC 792, RFC 1812, 5.2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    Network,
    Host,
    Port,
    /// It must not be.
    Prohibited,
}

impl Unreachable {
    fn code(self) -> u8 {
        match self {
            Unreachable::Network => 0,
            Unreachable::Host => 1,
            Unreachable::Port => 3,
            Unreachable::Prohibited => 13,
        }
    }
}

/// An echo request, or an answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo<'a> {
    pub ident: u16,
    pub number: u16,
    pub data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// The request in `message`, if it is one.
    pub(crate) fn request(message: &'a [u8]) -> Option<Echo<'a>> {
        Echo::read(message, ECHO_REQUEST)
    }

    /// The answer in it.
    pub(crate) fn reply(message: &'a [u8]) -> Option<Echo<'a>> {
        Echo::read(message, ECHO_REPLY)
    }

    fn read(message: &'a [u8], kind: u8) -> Option<Echo<'a>> {
        let (header, data) = message.split_first_chunk::<HEADER>()?;
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        (header[0] == kind && header[1] == 0).then(|| Echo { ident: number(4), number: number(6), data })
    }

    /// The request as a socket wants it, which puts in its own identity and the checksum.
    pub(crate) fn to_send(self) -> Vec<u8> {
        let mut message = vec![0; HEADER + self.data.len()];
        self.write(&mut message, ECHO_REQUEST);
        message
    }

    /// Answers the guest in the name of `from`.
    pub(crate) fn answer(self, out: &mut Outbox, from: Ipv4Addr) {
        out.packet(from, GUEST, ipv4::ICMP, HEADER + self.data.len(), |message| self.write(message, ECHO_REPLY));
    }

    fn write(self, message: &mut [u8], kind: u8) {
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        message[4..6].copy_from_slice(&self.ident.to_be_bytes());
        message[6..8].copy_from_slice(&self.number.to_be_bytes());
        message[8..].copy_from_slice(self.data);
        Icmpv4Packet::new_unchecked(message).fill_checksum();
    }
}

/// Tells the guest that `packet`, which it sent, did not arrive.
pub(crate) fn unreachable(out: &mut Outbox, what: Unreachable, packet: &[u8]) {
    let quoted = &packet[..packet.len().min(QUOTED)];
    out.packet(GATEWAY, GUEST, ipv4::ICMP, HEADER + quoted.len(), |message| {
        message[..HEADER].copy_from_slice(&[UNREACHABLE, what.code(), 0, 0, 0, 0, 0, 0]);
        message[HEADER..].copy_from_slice(quoted);
        Icmpv4Packet::new_unchecked(message).fill_checksum();
    });
}
