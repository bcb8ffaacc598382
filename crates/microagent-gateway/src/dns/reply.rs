//! What a server of the host's says.

use super::{id_of, is_small, text_of};
use microagent_egress::is_name;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use std::net::Ipv4Addr;

/// Most aliases that are followed. Servers give up at about as many.
const MAX_CHAIN: usize = 16;
/// Most records that are passed on.
const MAX_FOUND: usize = 64;

/// What some bytes are to somebody who asked a question.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Not an answer to it.
    Foreign,
    /// One that cannot be understood.
    Broken,
    /// One that says it is not whole.
    Truncated,
    /// One.
    Reply(Reply),
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// What became of the question.
    pub(super) rcode: RCODE,
    /// Aliases from the name that was asked about on, and then what was asked for.
    pub(super) records: Vec<ResourceRecord<'static>>,
}

impl Reply {
    /// The addresses in it.
    pub(super) fn addresses(&self) -> Vec<Ipv4Addr> {
        self.records.iter().filter_map(address).collect()
    }

    /// For how many seconds all of it holds.
    pub(super) fn ttl(&self) -> u32 {
        // What is no number of seconds is none (RFC 2181, 8).
        let seconds = |record: &ResourceRecord<'_>| i32::try_from(record.ttl).map_or(0, i32::cast_unsigned);
        self.records.iter().map(seconds).min().unwrap_or_default()
    }
}

/// The address that is in a record.
pub(super) fn address(record: &ResourceRecord<'_>) -> Option<Ipv4Addr> {
    match &record.rdata {
        RData::A(a) => Some(Ipv4Addr::from_bits(a.address)),
        _ => None,
    }
}

/// Parses what came, where `question` was asked under that `id`.
pub(crate) fn parse(bytes: &[u8], id: u16, question: &Question<'_>) -> Parsed {
    if id_of(bytes) != Some(id) {
        return Parsed::Foreign;
    }
    if !is_small(bytes) {
        return Parsed::Broken;
    }
    let Ok(packet) = Packet::parse(bytes) else { return Parsed::Broken };
    let is_asked = |echoed: &Question<'_>| {
        echoed.qname == question.qname && echoed.qtype == question.qtype && echoed.qclass == question.qclass
    };
    if !packet.has_flags(PacketFlag::RESPONSE) || !matches!(packet.questions.as_slice(), [echoed] if is_asked(echoed)) {
        return Parsed::Foreign;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Parsed::Truncated;
    }
    Parsed::Reply(Reply { rcode: packet.rcode(), records: follow(question, &packet.answers) })
}

/// The records that answer `question`. Others are not its business, whatever they say.
fn follow(question: &Question<'_>, answers: &[ResourceRecord<'_>]) -> Vec<ResourceRecord<'static>> {
    let QTYPE::TYPE(wanted) = question.qtype else { return Vec::new() };
    let (mut name, mut found) = (&question.qname, Vec::new());
    for _ in 0..MAX_CHAIN {
        let of_name = || answers.iter().filter(|record| record.class == CLASS::IN && record.name == *name);
        let wanted = || of_name().filter(|record| record.rdata.type_code() == wanted && is_sane(record));
        if wanted().next().is_some() {
            found.extend(wanted().take(MAX_FOUND).map(copy));
            return found;
        }
        let alias = of_name().find_map(|record| match &record.rdata {
            RData::CNAME(target) if is_sane(record) => Some((record, &target.0)),
            _ => None,
        });
        let Some((record, target)) = alias else { return found };
        found.push(copy(record));
        name = target;
    }
    Vec::new()
}

fn copy(record: &ResourceRecord<'_>) -> ResourceRecord<'static> {
    record.clone().with_cache_flush(false).into_owned()
}

/// Whether a name that is in a record can be one of a host: programs do with it what they do with one.
fn is_sane(record: &ResourceRecord<'_>) -> bool {
    let is_host = |name: &Name<'_>| is_name(&text_of(name));
    // No server at all (RFC 7505, RFC 2782).
    let is_host_or_none = |name: &Name<'_>| name.get_labels().is_empty() || is_host(name);
    match &record.rdata {
        RData::CNAME(name) => is_host(&name.0),
        RData::NS(name) => is_host_or_none(&name.0),
        RData::PTR(name) => is_host(&name.0),
        RData::MX(mx) => is_host_or_none(&mx.exchange),
        RData::SRV(srv) => is_host_or_none(&srv.target),
        RData::Empty(_) => false,
        rdata => !matches!(rdata.type_code(), TYPE::OPT | TYPE::NULL),
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
