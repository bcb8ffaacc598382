//! What the name server of an internet answers.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// RFC 1035 section 3.2.2.
const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
/// RFC 1035 section 4.1.1.
const NAME_ERROR: u8 = 3;

/// Lifetime of a record, in seconds, where nothing else is said.
const LIFETIME: u32 = 300;

/// What is answered to questions for one name.
#[derive(Clone, Debug)]
pub struct Answer {
    turns: Vec<Turn>,
}

#[derive(Clone, Debug, Default)]
struct Turn {
    code: u8,
    silent: bool,
    records: Vec<(u16, u32, Vec<u8>)>,
}

impl Answer {
    fn of(turn: Turn) -> Answer {
        Answer { turns: vec![turn] }
    }

    /// These addresses.
    pub fn addresses(addresses: &[&str]) -> Answer {
        let octets = |address: &&str| address.parse::<Ipv4Addr>().expect("an address").octets().to_vec();
        let records = addresses.iter().map(|address| (A, LIFETIME, octets(address))).collect();
        Answer::of(Turn { records, ..Turn::default() })
    }

    /// So many addresses that they fit into no datagram: `198.18.0.0` and those behind it.
    pub fn big() -> Answer {
        let records = (0..2000u16).map(|n| (A, LIFETIME, [&[198, 18], &n.to_be_bytes()[..]].concat())).collect();
        Answer::of(Turn { records, ..Turn::default() })
    }

    /// That it is another name for `name`, whose records are added.
    pub fn alias(name: &str) -> Answer {
        Answer::record(CNAME, &labels(name))
    }

    /// A text of up to 255 bytes.
    pub fn text(text: &str) -> Answer {
        let length = u8::try_from(text.len()).expect("at most 255 bytes");
        Answer::record(TXT, &[&[length], text.as_bytes()].concat())
    }

    /// A record of any kind. Names in it are not compressed.
    pub fn record(kind: u16, data: &[u8]) -> Answer {
        Answer::of(Turn { records: vec![(kind, LIFETIME, data.to_vec())], ..Turn::default() })
    }

    /// That there is no such name, which is the answer for every name that none was set for.
    pub fn no_such_name() -> Answer {
        Answer::code(NAME_ERROR)
    }

    /// A response code alone, as in RFC 1035 section 4.1.1.
    pub fn code(code: u8) -> Answer {
        Answer::of(Turn { code, ..Turn::default() })
    }

    /// No answer at all.
    pub fn silence() -> Answer {
        Answer::of(Turn { silent: true, ..Turn::default() })
    }

    /// With this lifetime of all its records, in seconds.
    #[must_use]
    pub fn living(mut self, seconds: u32) -> Answer {
        for record in self.turns.iter_mut().flat_map(|turn| &mut turn.records) {
            record.1 = seconds;
        }
        self
    }

    /// With the records of `other`, too.
    #[must_use]
    pub fn and(mut self, other: Answer) -> Answer {
        let more = other.turns.into_iter().flat_map(|turn| turn.records);
        self.turns.last_mut().expect("there is always a turn").records.extend(more);
        self
    }

    /// Once this was the answer to a question for addresses, the answer is `next`.
    #[must_use]
    pub fn then(mut self, next: Answer) -> Answer {
        self.turns.extend(next.turns);
        self
    }

    /// As the server takes it.
    pub(super) fn to_json(&self) -> Value {
        let record =
            |(kind, lifetime, data): &(u16, u32, Vec<u8>)| json!({ "kind": kind, "ttl": lifetime, "data": data });
        let turn = |turn: &Turn| {
            let records: Vec<Value> = turn.records.iter().map(record).collect();
            json!({ "code": turn.code, "silent": turn.silent, "records": records })
        };
        self.turns.iter().map(turn).collect()
    }
}

/// A name as in RFC 1035 section 3.1.
fn labels(name: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packed.push(u8::try_from(label.len()).expect("a label of at most 63 bytes"));
        packed.extend(label.as_bytes());
    }
    packed.push(0);
    packed
}
