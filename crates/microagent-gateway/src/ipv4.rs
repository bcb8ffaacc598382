//! Packets (RFC 791), as far as a gateway needs them.

use crate::address::GUEST;
use smoltcp::wire::{Ipv4Address, Ipv4Packet};
use std::net::Ipv4Addr;

/// Bytes of a header without options: all that we send.
pub(crate) const HEADER: usize = 20;
/// Numbers of protocols (IANA).
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// How many hops a packet of ours may make. It makes one.
const HOPS: u8 = 64;

/// A packet that the guest sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
    pub protocol: u8,
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is none.
    Malformed,
    /// It is a part of one. With an MTU of 64 KiB nobody has a reason to send parts, except to hide what is in them.
    Fragment,
    /// It is not from the guest.
    Foreign,
}

impl<'a> Packet<'a> {
    /// Reads one. The checksum does not matter on a link inside one machine.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Packet<'a>, Unreadable> {
        let packet = Ipv4Packet::new_checked(bytes).map_err(|_| Unreadable::Malformed)?;
        if packet.version() != 4 || usize::from(packet.header_len()) < HEADER {
            return Err(Unreadable::Malformed);
        }
        let (from, to): (Ipv4Address, Ipv4Address) = (packet.src_addr(), packet.dst_addr());
        // Who has no address yet asks for one by DHCP.
        if from != GUEST && !(from.is_unspecified() && packet.next_header() == smoltcp::wire::IpProtocol::Udp) {
            return Err(Unreadable::Foreign);
        }
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Err(Unreadable::Fragment);
        }
        let (start, end) = (usize::from(packet.header_len()), usize::from(packet.total_len()));
        let bytes = bytes.get(..end).ok_or(Unreadable::Malformed)?;
        let payload = bytes.get(start..).ok_or(Unreadable::Malformed)?;
        Ok(Packet { bytes, payload, protocol: packet.next_header().into(), from, to })
    }
}

/// Writes the header of a packet with `length` bytes of `protocol`.
pub(crate) fn write_header(header: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, protocol: u8, length: usize) {
    let mut packet = Ipv4Packet::new_unchecked(header);
    packet.set_version(4);
    packet.set_header_len(HEADER as u8);
    packet.set_dscp(0);
    packet.set_ecn(0);
    packet.set_total_len((HEADER + length) as u16);
    packet.set_ident(0);
    packet.clear_flags();
    packet.set_dont_frag(true);
    packet.set_frag_offset(0);
    packet.set_hop_limit(HOPS);
    packet.set_next_header(protocol.into());
    packet.set_src_addr(from);
    packet.set_dst_addr(to);
    packet.fill_checksum();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + 4];
        write_header(&mut bytes, GUEST, Ipv4Addr::new(192, 0, 2, 1), TCP, 4);
        change(&mut bytes);
        bytes
    }

    #[test]
    fn only_whole_packets_of_the_guest_are_read() {
        let whole = packet(|_| ());
        let read = Packet::read(&whole).unwrap();
        assert_eq!((read.protocol, read.payload.len(), read.to), (TCP, 4, Ipv4Addr::new(192, 0, 2, 1)));
        let error = |bytes: Vec<u8>| Packet::read(&bytes).unwrap_err();
        assert_eq!(error(packet(|bytes| bytes[6] |= 0x20)), Unreadable::Fragment);
        assert_eq!(error(packet(|bytes| bytes[7] = 1)), Unreadable::Fragment);
        assert_eq!(error(packet(|bytes| bytes[15] = 3)), Unreadable::Foreign);
        assert_eq!(error(packet(|bytes| bytes[0] = 0x65)), Unreadable::Malformed);
        assert_eq!(error(packet(|bytes| bytes[0] = 0x44)), Unreadable::Malformed);
        assert_eq!(error(packet(|bytes| bytes[3] = 200)), Unreadable::Malformed);
        // What ethernet pads a packet with is no part of it.
        let padded = packet(|bytes| bytes[3] -= 2);
        assert_eq!(Packet::read(&padded).unwrap().payload.len(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Packet::read(&bytes);
        }

        #[test]
        fn no_header_is_too_odd(at in 0usize..20, value: u8) {
            let _ = Packet::read(&packet(|bytes| bytes[at] = value));
        }
    }
}
