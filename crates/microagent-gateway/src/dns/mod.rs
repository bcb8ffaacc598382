//! The resolver of a machine.
//!
//! It is the only one that the guest can reach, and the only source of what makes an address allowed: [`Names`] remembers which names it
//! gave an address for. [`DnsServer`] answers the guest's questions, out of what [`Resolver`], the host's configuration, leads to. Answers
//! are made anew from the records that were understood: no bytes of the guest go to a server of the host, and none the other way.

mod answer;
mod configuration;
mod error;
mod exchange;
mod names;
mod query;
mod reply;
mod resolver;
mod server;
#[cfg(test)]
mod testing;

pub use error::LookupError;
pub use names::Names;
pub use resolver::Resolver;
pub use server::{DnsServer, Transport};

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod resolver_tests;
#[cfg(test)]
#[path = "server_tests.rs"]
mod server_tests;

pub(crate) use query::parse as parse_query;
pub(crate) use reply::parse as parse_reply;

/// Most records of a message that are looked at. The largest answers in use have some dozens; names in a record that are compressed take a
/// hundred times their length when they are not.
const MAX_RECORDS: u16 = 512;

/// Whether a message has so few records that it can be parsed, whatever it says about their number.
fn is_small(bytes: &[u8]) -> bool {
    use simple_dns::header_buffer::{additional_records, answers, name_servers, questions};
    let counts = [questions(bytes), answers(bytes), name_servers(bytes), additional_records(bytes)];
    counts.into_iter().try_fold(0u16, |sum, count| sum.checked_add(count.ok()?)).is_some_and(|sum| sum <= MAX_RECORDS)
}

/// The number of a message, even of one that is cut short (RFC 1035, 4.1.1).
pub(crate) fn id_of(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_be_bytes)
}

/// `name` in lower case and without the dot at its end, as it is compared and recorded. Bytes that no host's name has are escaped.
fn text_of(name: &simple_dns::Name<'_>) -> String {
    name.to_string().to_ascii_lowercase()
}
