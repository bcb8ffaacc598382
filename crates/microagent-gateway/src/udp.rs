//! Datagrams (RFC 768): reading and writing them.

use crate::address::GUEST;
use crate::ipv4;
use crate::link::Outbox;
use smoltcp::wire::UdpPacket;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of the header.
pub(crate) const HEADER: usize = 8;

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub from: u16,
    pub to: u16,
    pub data: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The one in `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Datagram<'a>> {
        let packet = UdpPacket::new_checked(bytes).ok()?;
        let data = bytes.get(HEADER..usize::from(packet.len()))?;
        Some(Datagram { from: packet.src_port(), to: packet.dst_port(), data })
    }
}

/// Sends a datagram from `from` to that port of the guest.
pub(crate) fn send(out: &mut Outbox, from: SocketAddrV4, port: u16, data: &[u8]) {
    send_to(out, from, SocketAddrV4::new(GUEST, port), data);
}

/// Sends a datagram to the guest, whatever it thinks its address is.
pub(crate) fn send_to(out: &mut Outbox, from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) {
    let length = HEADER + data.len();
    out.packet(*from.ip(), *to.ip(), ipv4::UDP, length, |bytes| {
        bytes[HEADER..].copy_from_slice(data);
        let mut packet = UdpPacket::new_unchecked(bytes);
        packet.set_src_port(from.port());
        packet.set_dst_port(to.port());
        packet.set_len(length as u16);
        packet.fill_checksum(&(*from.ip()).into(), &(*to.ip()).into());
    });
}

/// The packet that a datagram was sent in, as far as a message about it has to quote it.
pub(crate) fn quoted(port: u16, to: SocketAddrV4) -> Vec<u8> {
    let mut packet = vec![0; ipv4::HEADER + HEADER];
    let (header, datagram) = packet.split_at_mut(ipv4::HEADER);
    ipv4::write_header(header, GUEST, *to.ip(), ipv4::UDP, HEADER);
    let mut datagram = UdpPacket::new_unchecked(datagram);
    datagram.set_src_port(port);
    datagram.set_dst_port(to.port());
    datagram.set_len(HEADER as u16);
    packet
}

/// Broadcast, which is where somebody without an address is.
pub(crate) const EVERYBODY: Ipv4Addr = Ipv4Addr::BROADCAST;
