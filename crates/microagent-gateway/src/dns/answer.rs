//! Answers to the guest.

use super::query::Query;
use simple_dns::rdata::OPT;
use simple_dns::{OPCODE, Packet, PacketFlag, RCODE, ResourceRecord};

/// What we say that we take over UDP (RFC 6891, 6.2.3): a question's most.
const OUR_UDP_SIZE: u16 = 512;

impl Query {
    /// The answer that there will be none.
    pub(crate) fn refused(&self) -> Vec<u8> {
        self.answer(RCODE::Refused, &[])
    }

    /// The answer with these records, or with none and the request to ask by TCP if they are more than fit.
    pub(super) fn answer(&self, rcode: RCODE, records: &[ResourceRecord<'static>]) -> Vec<u8> {
        let mut packet = Packet::new_reply(self.id);
        packet.set_flags(PacketFlag::RECURSION_AVAILABLE);
        if self.recursion_desired {
            packet.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        *packet.rcode_mut() = rcode;
        if self.has_edns {
            *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: OUR_UDP_SIZE, version: 0 });
        }
        packet.questions.push(self.question.clone());
        packet.answers = records.to_vec();
        match packet.build_bytes_vec_compressed() {
            Ok(bytes) if bytes.len() <= self.max => return bytes,
            Ok(_) => packet.set_flags(PacketFlag::TRUNCATION),
            Err(_) => *packet.rcode_mut() = RCODE::ServerFailure,
        }
        packet.answers.clear();
        packet.build_bytes_vec_compressed().unwrap_or_else(|_| bare(self.id, RCODE::ServerFailure))
    }
}

/// An answer that repeats no question.
pub(super) fn bare(id: u16, rcode: RCODE) -> Vec<u8> {
    const HEADER: usize = 12;
    let mut packet = Packet::new_reply(id);
    *packet.opcode_mut() = OPCODE::StandardQuery;
    packet.set_flags(PacketFlag::RECURSION_AVAILABLE);
    *packet.rcode_mut() = rcode;
    packet.build_bytes_vec().unwrap_or_else(|_| vec![0; HEADER])
}
