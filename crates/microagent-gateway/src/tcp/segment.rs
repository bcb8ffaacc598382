//! As much of a segment (RFC 9293, 3.1) as it takes to know whose it is.

use crate::ipv4;
use smoltcp::wire::TcpPacket;

/// What is to be known of a segment before a stack gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub from: u16,
    pub to: u16,
    /// It opens a connection.
    pub opens: bool,
    /// It resets one.
    pub resets: bool,
    header: usize,
}

impl Segment {
    /// The one in `packet`.
    pub(crate) fn read(packet: &ipv4::Packet<'_>) -> Option<Segment> {
        let segment = TcpPacket::new_checked(packet.payload).ok()?;
        let header = packet.bytes.len() - packet.payload.len() + usize::from(segment.header_len());
        Some(Segment {
            from: segment.src_port(),
            to: segment.dst_port(),
            opens: segment.syn() && !segment.ack() && !segment.rst() && !segment.fin(),
            resets: segment.rst(),
            header,
        })
    }

    /// Only its headers, to be kept. What a first segment carries (RFC 7413) the guest sends again.
    pub(crate) fn headers(&self, packet: &ipv4::Packet<'_>) -> Vec<u8> {
        let mut headers = packet.bytes[..self.header].to_vec();
        let mut whole = smoltcp::wire::Ipv4Packet::new_unchecked(&mut headers);
        whole.set_total_len(self.header as u16);
        whole.fill_checksum();
        headers
    }
}
