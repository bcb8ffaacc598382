//! A question of the guest.

use super::server::Transport;
use super::{answer, id_of, is_small, text_of};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, SimpleDnsError};

/// Most bytes of a question: RFC 1035, 4.2.1 over UDP; over TCP nobody has more to ask.
const MAX_UDP_QUESTION: usize = 512;
const MAX_TCP_QUESTION: usize = 4096;
/// Bytes of an answer that everybody takes, and that we give at most over UDP. The link to the guest has room for it in one piece.
const MIN_UDP_ANSWER: usize = 512;
const MAX_UDP_ANSWER: usize = 4096;
const MAX_TCP_ANSWER: usize = u16::MAX as usize;

/// One question, and how it is to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(super) id: u16,
    pub(super) question: Question<'static>,
    /// The name that it is about, see [`text_of`].
    pub(super) name: String,
    pub(super) recursion_desired: bool,
    pub(super) has_edns: bool,
    /// Most bytes of the answer.
    pub(super) max: usize,
}

/// Parses a question. What is none gets the answer that says so.
pub(crate) fn parse(bytes: &[u8], transport: Transport) -> Result<Query, Vec<u8>> {
    let id = id_of(bytes).unwrap_or_default();
    let refuse = |rcode| answer::bare(id, rcode);
    let most = if transport == Transport::Udp { MAX_UDP_QUESTION } else { MAX_TCP_QUESTION };
    if bytes.len() > most || !is_small(bytes) {
        return Err(refuse(RCODE::FormatError));
    }
    let packet = Packet::parse(bytes).map_err(|error| match error {
        SimpleDnsError::InvalidQType(_) => refuse(RCODE::NotImplemented),
        _ => refuse(RCODE::FormatError),
    })?;
    if packet.opcode() != OPCODE::StandardQuery {
        return Err(refuse(RCODE::NotImplemented));
    }
    let is_query =
        !packet.has_flags(PacketFlag::RESPONSE) && packet.answers.is_empty() && packet.name_servers.is_empty();
    let [question] = packet.questions.as_slice() else { return Err(refuse(RCODE::FormatError)) };
    if !is_query {
        return Err(refuse(RCODE::FormatError));
    }
    let max = match (transport, packet.opt()) {
        (Transport::Tcp, _) => MAX_TCP_ANSWER,
        (Transport::Udp, None) => MIN_UDP_ANSWER,
        (Transport::Udp, Some(opt)) => usize::from(opt.udp_packet_size).clamp(MIN_UDP_ANSWER, MAX_UDP_ANSWER),
    };
    let query = Query {
        id,
        question: question.clone().into_owned(),
        name: text_of(&question.qname),
        recursion_desired: packet.has_flags(PacketFlag::RECURSION_DESIRED),
        has_edns: packet.opt().is_some(),
        max,
    };
    // Another version is answered with ours (RFC 6891, 6.1.3).
    if packet.opt().is_some_and(|opt| opt.version != 0) {
        return Err(query.answer(RCODE::BADVERS, &[]));
    }
    let is_of_internet = question.qclass == QCLASS::CLASS(CLASS::IN) && !question.unicast_response;
    // Zones are not handed over, and `ANY` need not be answered (RFC 8482, 4.4).
    if !is_of_internet || !matches!(question.qtype, QTYPE::TYPE(_)) {
        return Err(query.refused());
    }
    Ok(query)
}
