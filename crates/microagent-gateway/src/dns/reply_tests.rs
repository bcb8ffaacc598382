use super::super::testing::{a, cname, name, record};
use super::*;
use proptest::prelude::*;
use simple_dns::QCLASS;
use simple_dns::rdata::{MX, SOA, SRV, TXT};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ID: u16 = 0x1234;

fn question(of: &str, kind: TYPE) -> Question<'static> {
    Question::new(name(of), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false)
}

fn packet(question: Question<'static>, records: Vec<ResourceRecord<'static>>) -> Vec<u8> {
    let mut packet = Packet::new_reply(ID);
    packet.questions.push(question);
    packet.answers = records;
    packet.build_bytes_vec_compressed().unwrap()
}

fn found(kind: TYPE, records: Vec<ResourceRecord<'static>>) -> Reply {
    let question = question("a.example", kind);
    match parse(&packet(question.clone(), records), ID, &question) {
        Parsed::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn aliases_are_followed_in_any_order_and_what_is_beside_them_is_left() {
    let reply = found(
        TYPE::A,
        vec![
            a("c.example", ADDRESS, 30),
            a("evil.example", Ipv4Addr::new(192, 0, 2, 66), 30),
            cname("b.example", "C.example", 20),
            cname("A.example", "b.example", 40),
            a("c.example", Ipv4Addr::new(192, 0, 2, 2), 30),
        ],
    );
    assert_eq!(reply.addresses(), [ADDRESS, Ipv4Addr::new(192, 0, 2, 2)]);
    assert_eq!((reply.records.len(), reply.ttl()), (4, 20));
}

#[test]
fn aliases_in_a_circle_lead_nowhere() {
    let circle = vec![cname("a.example", "b.example", 1), cname("b.example", "a.example", 1)];
    assert!(found(TYPE::A, circle).records.is_empty());
    let long: Vec<_> = (0..40)
        .map(|count| {
            cname(
                &if count == 0 { "a.example".into() } else { format!("{count}.example") },
                &format!("{}.example", count + 1),
                1,
            )
        })
        .collect();
    assert!(found(TYPE::A, long).records.is_empty());
}

#[test]
fn an_answer_is_one_to_the_question_that_was_asked() {
    let question = question("a.example", TYPE::A);
    let good = packet(question.clone(), vec![a("a.example", ADDRESS, 1)]);
    assert!(matches!(parse(&good, ID, &question), Parsed::Reply(_)));
    assert!(matches!(parse(&good, ID + 1, &question), Parsed::Foreign));
    assert!(matches!(parse(&good, ID, &super::tests::question("b.example", TYPE::A)), Parsed::Foreign));
    assert!(matches!(parse(&good, ID, &super::tests::question("a.example", TYPE::TXT)), Parsed::Foreign));
    let mut query = good.clone();
    query[2] &= 0x7f;
    assert!(matches!(parse(&query, ID, &question), Parsed::Foreign));
    assert!(matches!(parse(&good[..good.len() - 1], ID, &question), Parsed::Broken));
    assert!(matches!(parse(&[0x12], ID, &question), Parsed::Foreign));
    let mut truncated = good.clone();
    truncated[2] |= 2;
    assert!(matches!(parse(&truncated, ID, &question), Parsed::Truncated));
    let mut many = good;
    many[6..8].copy_from_slice(&[0xff, 0xff]);
    assert!(matches!(parse(&many, ID, &question), Parsed::Broken));
}

#[test]
fn names_that_no_host_has_are_not_passed_on() {
    for target in ["$(reboot).example", "a b.example", "-\n.example"] {
        assert!(found(TYPE::A, vec![cname("a.example", target, 1), a(target, ADDRESS, 1)]).records.is_empty());
        let exchange = RData::MX(MX { preference: 1, exchange: name(target) });
        assert!(found(TYPE::MX, vec![record("a.example", 1, exchange)]).records.is_empty());
    }
    let none = RData::MX(MX { preference: 0, exchange: name("") });
    assert_eq!(found(TYPE::MX, vec![record("a.example", 1, none)]).records.len(), 1);
}

#[test]
fn other_kinds_of_records_are_passed_on() {
    let server = SRV { priority: 1, weight: 2, port: 3, target: name("b.example") };
    let zone = SOA {
        mname: name("ns.example"),
        rname: name("x.example"),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum: 5,
    };
    for (kind, rdata) in [
        (TYPE::SRV, RData::SRV(server)),
        (TYPE::TXT, RData::TXT(TXT::new().with_string("v=spf1 -all").unwrap().into_owned())),
        (TYPE::SOA, RData::SOA(zone)),
    ] {
        let reply = found(kind, vec![record("a.example", 9, rdata.clone()), a("a.example", ADDRESS, 1)]);
        assert_eq!(reply.records, [record("a.example", 9, rdata)]);
    }
}

#[test]
fn a_time_to_live_that_is_none_is_over() {
    assert_eq!(found(TYPE::A, vec![a("a.example", ADDRESS, 0x8000_0000)]).ttl(), 0);
    assert_eq!(found(TYPE::A, vec![a("a.example", ADDRESS, 0x7fff_ffff)]).ttl(), 0x7fff_ffff);
    assert_eq!(found(TYPE::A, vec![]).ttl(), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_none(
        rest in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0u16..260,
        counts in any::<[u8; 4]>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let question = question("a.example", TYPE::A);
        let mut bytes = packet(question.clone(), vec![cname("a.example", "b.example", 1), a("b.example", ADDRESS, 1)]);
        // One more record of any kind, with anything in it.
        bytes.extend([0xc0, 12]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 1]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        for (at, count) in counts.into_iter().enumerate() {
            bytes[5 + 2 * at] = bytes[5 + 2 * at].wrapping_add(count % 3);
        }
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Parsed::Reply(reply) = parse(&bytes, ID, &question) {
            prop_assert!(reply.records.len() <= MAX_CHAIN + MAX_FOUND);
            reply.addresses();
        }
    }
}
