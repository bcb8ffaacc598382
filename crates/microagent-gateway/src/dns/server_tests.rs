use super::testing::{FakeServer, Said, a, cname, name, record};
use super::*;
use microagent_egress::{Event, Happened, Inside, Log, Mode, Policy, Protocol, Reason, Rules};
use proptest::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use simple_dns::rdata::{MX, OPT, PTR, RData};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// For an answer that is sure to come: longer than any lookup takes, on a machine that has much else to do.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A server that is asked as a guest asks.
struct Guest {
    dns: DnsServer,
    wake: Arc<OwnedFd>,
    dir: tempfile::TempDir,
    asked: u64,
}

impl Guest {
    fn new(mode: Mode, allow: &[&str], resolver: Resolver) -> Guest {
        let dir = tempfile::tempdir().unwrap();
        let allow = allow.iter().map(|host| host.parse().unwrap()).collect();
        let policy = Policy::new(Rules { mode, allow, passthrough: vec![] }, vec![]).unwrap();
        let log = Arc::new(Log::open(&dir.path().join("egress.jsonl")).unwrap());
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap());
        Guest { dns: DnsServer::new(resolver, policy, log, wake.clone()), wake, dir, asked: 0 }
    }

    fn of(mode: Mode, allow: &[&str], server: &FakeServer) -> Guest {
        Guest::new(mode, allow, Resolver::with(vec![server.address], vec![], vec![]))
    }

    /// The answer to these bytes, at once or not.
    fn exchange(&mut self, bytes: &[u8], transport: Transport) -> Vec<u8> {
        self.asked += 1;
        if let Some(answer) = self.dns.ask(bytes, transport, self.asked) {
            return answer;
        }
        let mut answers = self.wait();
        let answer = answers.pop().unwrap();
        assert_eq!((answers.len(), answer.0), (0, self.asked));
        answer.1
    }

    /// The next answers.
    fn wait(&mut self) -> Vec<(u64, Vec<u8>)> {
        assert_eq!(poll(&mut [PollFd::new(&*self.wake, PollFlags::IN)], Some(&PATIENCE)).unwrap(), 1, "no answer came");
        rustix::io::read(&*self.wake, &mut [0; 8]).unwrap();
        self.dns.answers()
    }

    fn look_up(&mut self, name: &str, kind: TYPE) -> Answer {
        Answer::of(&self.exchange(&query(name, kind), Transport::Udp))
    }

    fn names(&mut self, address: Ipv4Addr) -> Vec<String> {
        self.dns.names().of(address.into(), Instant::now())
    }

    fn events(&self) -> Vec<Event> {
        Log::read(&self.dir.path().join("egress.jsonl"), 0).unwrap().0
    }
}

/// What the guest reads in an answer.
#[derive(Debug, PartialEq)]
struct Answer {
    rcode: RCODE,
    records: Vec<(String, TYPE, u32)>,
    addresses: Vec<Ipv4Addr>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Answer {
        let packet = Packet::parse(bytes).unwrap();
        assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE));
        assert_eq!(packet.id(), 7);
        Answer {
            rcode: packet.rcode(),
            records: packet.answers.iter().map(|r| (r.name.to_string(), r.rdata.type_code(), r.ttl)).collect(),
            addresses: packet.answers.iter().filter_map(super::reply::address).collect(),
        }
    }

    fn empty(rcode: RCODE) -> Answer {
        Answer { rcode, records: vec![], addresses: vec![] }
    }
}

fn question(of: &str, kind: TYPE) -> Question<'static> {
    Question::new(name(of), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false)
}

fn packet(question: Question<'static>) -> Packet<'static> {
    let mut packet = Packet::new_query(7);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(question);
    packet
}

fn query(of: &str, kind: TYPE) -> Vec<u8> {
    packet(question(of, kind)).build_bytes_vec().unwrap()
}

#[test]
fn an_address_is_given_and_remembered_for_the_name_that_was_asked_for() {
    let server = FakeServer::start(|asked| {
        vec![Said::Answer(
            asked.answer(vec![cname(&asked.name, "edge.example.net", 30), a("edge.example.net", ADDRESS, 90)]),
        )]
    });
    let mut guest = Guest::of(Mode::Strict, &["api.example.com"], &server);
    let answer = guest.look_up("API.example.com", TYPE::A);
    assert_eq!(answer.rcode, RCODE::NoError);
    // In the case it was asked for.
    let records = [("API.example.com".to_owned(), TYPE::CNAME, 30), ("edge.example.net".to_owned(), TYPE::A, 30)];
    assert_eq!((answer.records.as_slice(), answer.addresses.as_slice()), (records.as_slice(), [ADDRESS].as_slice()));
    assert_eq!(guest.names(ADDRESS), ["api.example.com"]);
    assert!(guest.events().is_empty());
}

#[test]
fn the_guest_forgets_an_answer_before_we_do() {
    for (ttl, given) in [(0, 0), (30, 30), (55, 55), (60, 55), (100, 95), (3600, 3595), (86400, 3595)] {
        let server = FakeServer::with_addresses(&["192.0.2.1"], ttl);
        let mut guest = Guest::of(Mode::Guarded, &[], &server);
        let answer = guest.look_up("a.example", TYPE::A);
        assert_eq!(answer.records[0].2, given, "{ttl}");
        let lifetime = names::lifetime(Duration::from_secs(ttl.into()));
        let soon = Instant::now() + lifetime.saturating_sub(Duration::from_secs(5));
        assert_eq!(guest.dns.names().of(ADDRESS.into(), soon), ["a.example"], "{ttl}");
        assert!(guest.dns.names().of(ADDRESS.into(), Instant::now() + lifetime).is_empty(), "{ttl}");
    }
}

#[test]
fn strict_refuses_what_is_not_listed_and_says_so_once() {
    let server = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let mut guest = Guest::of(Mode::Strict, &["api.example.com"], &server);
    for kind in [TYPE::A, TYPE::AAAA, TYPE::TXT, TYPE::MX, TYPE::HTTPS] {
        assert_eq!(guest.look_up("evil.example", kind), Answer::empty(RCODE::Refused));
    }
    assert_eq!(guest.look_up("1.2.0.192.in-addr.arpa", TYPE::PTR), Answer::empty(RCODE::Refused));
    assert!(server.asked().is_empty());
    let events = guest.events();
    // A slow machine takes longer than the second within which the same is told once.
    assert!((2..=6).contains(&events.len()));
    assert_eq!(events[0].host.as_deref(), Some("evil.example"));
    for event in events {
        assert_eq!(
            (event.event, event.protocol, event.reason),
            (Happened::Deny, Protocol::Dns, Some(Reason::NotListed))
        );
    }
}

#[test]
fn nothing_is_learnt_of_addresses_that_cannot_be_reached_and_of_keys() {
    let server = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    for kind in [TYPE::AAAA, TYPE::HTTPS, TYPE::SVCB] {
        assert_eq!(guest.look_up("a.example", kind), Answer::empty(RCODE::NoError));
    }
    assert!(server.asked().is_empty() && guest.events().is_empty());
}

#[test]
fn some_names_are_our_own() {
    let server = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let mut guest = Guest::of(Mode::Strict, &["api.example.com"], &server);
    for (name, address) in [
        ("localhost", [127, 0, 0, 1]),
        ("a.LOCALHOST", [127, 0, 0, 1]),
        ("gateway.microagent.internal", [10, 43, 0, 1]),
    ] {
        assert_eq!(guest.look_up(name, TYPE::A).addresses, [Ipv4Addr::from(address)]);
        assert_eq!(guest.look_up(name, TYPE::AAAA), Answer::empty(RCODE::NoError));
    }
    let bytes = guest.exchange(&query("1.0.43.10.in-addr.arpa", TYPE::PTR), Transport::Udp);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.answers[0].rdata, RData::PTR(PTR(name("gateway.microagent.internal"))));
    assert!(server.asked().is_empty() && guest.events().is_empty());
    assert!(guest.names(Ipv4Addr::LOCALHOST).is_empty());
}

#[test]
fn other_kinds_of_questions_are_passed_on() {
    let server = FakeServer::start(|asked| {
        let exchange = RData::MX(MX { preference: 10, exchange: name("mail.example") });
        vec![Said::Answer(asked.answer(vec![record(&asked.name, 60, exchange), a(&asked.name, ADDRESS, 60)]))]
    });
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    assert_eq!(guest.look_up("a.example", TYPE::MX).records, [("a.example".to_owned(), TYPE::MX, 55)]);
    assert!(guest.names(ADDRESS).is_empty());
    assert_eq!(guest.look_up("1.2.0.192.in-addr.arpa", TYPE::PTR), Answer::empty(RCODE::NoError));
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_name_that_leads_back_to_who_asks_leads_nowhere() {
    let addresses = ["127.0.0.1", "192.0.2.1", "0.0.0.0", "169.254.169.254", "10.0.0.5"];
    let server = FakeServer::with_addresses(&addresses, 60);
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    let answer = guest.look_up("rebinding.example", TYPE::A);
    // What is inside otherwise is decided on when there is a connection.
    assert_eq!(answer.addresses, [ADDRESS, Ipv4Addr::new(10, 0, 0, 5)]);
    assert!(guest.names(Ipv4Addr::LOCALHOST).is_empty());
    let mut denied: Vec<_> = guest
        .events()
        .into_iter()
        .map(|event| (event.host.unwrap(), event.address.unwrap(), event.reason.unwrap()))
        .collect();
    denied.sort_by_key(|(_, address, _)| *address);
    let expected =
        [("0.0.0.0", Inside::Unspecified), ("127.0.0.1", Inside::Loopback), ("169.254.169.254", Inside::LinkLocal)];
    let expected = expected.map(|(address, class)| {
        ("rebinding.example".to_owned(), address.parse::<IpAddr>().unwrap(), Reason::Inside(class))
    });
    assert_eq!(denied, expected);
    let mut open = Guest::of(Mode::Off, &[], &server);
    assert_eq!(open.look_up("rebinding.example", TYPE::A).addresses.len(), addresses.len());
    assert!(open.events().is_empty());
}

#[test]
fn names_of_the_host_and_of_its_domains_count_as_they_were_asked_for() {
    let server = FakeServer::with_addresses(&["10.0.0.8"], 60);
    let hosts = vec![("box".to_owned(), "10.0.0.7".parse().unwrap())];
    let resolver = Resolver::with(vec![server.address], vec!["corp.example".to_owned()], hosts);
    let mut guest = Guest::new(Mode::Strict, &["box", "db"], resolver);
    assert_eq!(guest.look_up("box", TYPE::A).addresses, [Ipv4Addr::new(10, 0, 0, 7)]);
    let records = guest.look_up("db", TYPE::A).records;
    let expected = [("db".to_owned(), TYPE::CNAME, 55), ("db.corp.example".to_owned(), TYPE::A, 55)];
    assert_eq!(records, expected);
    assert_eq!(guest.names(Ipv4Addr::new(10, 0, 0, 7)), ["box"]);
    assert_eq!(guest.names(Ipv4Addr::new(10, 0, 0, 8)), ["db"]);
    assert_eq!(guest.look_up("db.corp.example", TYPE::A), Answer::empty(RCODE::Refused));
}

#[test]
fn what_is_too_much_for_a_datagram_is_to_be_asked_for_by_tcp() {
    let server = FakeServer::start(|asked| match asked.transport {
        Transport::Udp => vec![Said::Answer(asked.truncated())],
        Transport::Tcp => {
            let records = (0..60).map(|count| a(&asked.name, Ipv4Addr::new(192, 0, 2, count), 60));
            vec![Said::Answer(asked.answer(records.collect()))]
        }
    });
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    let mut large = packet(question("big.example", TYPE::A));
    *large.opt_mut() = Some(OPT { opt_codes: vec![], udp_packet_size: 4096, version: 0 });
    let large = large.build_bytes_vec().unwrap();
    let small = query("big.example", TYPE::A);
    for (bytes, transport, whole) in
        [(&small, Transport::Udp, false), (&large, Transport::Udp, true), (&small, Transport::Tcp, true)]
    {
        let answer = guest.exchange(bytes, transport);
        assert!(transport == Transport::Tcp || answer.len() <= if whole { 4096 } else { 512 });
        let packet = Packet::parse(&answer).unwrap();
        assert_eq!(packet.has_flags(PacketFlag::TRUNCATION), !whole);
        assert_eq!(packet.answers.len(), if whole { 60 } else { 0 });
        assert_eq!(packet.opt().is_some(), bytes.len() == large.len());
    }
}

#[test]
fn what_is_no_question_of_ours_is_told_so() {
    let server = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    let good = query("a.example", TYPE::A);
    let with = |change: &dyn Fn(&mut Packet<'static>)| {
        let mut packet = packet(question("a.example", TYPE::A));
        change(&mut packet);
        packet.build_bytes_vec().unwrap()
    };
    let raw = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let version = Some(OPT { opt_codes: vec![], udp_packet_size: 512, version: 1 });
    let cases = [
        (good[..good.len() - 1].to_vec(), RCODE::FormatError),
        (good[..11].to_vec(), RCODE::FormatError),
        ([good.clone(), vec![0; 512]].concat(), RCODE::FormatError),
        (raw(5, 0), RCODE::FormatError),
        (raw(5, 2), RCODE::FormatError),
        (raw(4, 0xff), RCODE::FormatError),
        (raw(7, 1), RCODE::FormatError),
        (raw(2, 0x80), RCODE::FormatError),
        (raw(12, 0xc0), RCODE::FormatError),
        (with(&|packet| packet.questions.push(question("b.example", TYPE::A))), RCODE::FormatError),
        (with(&|packet| packet.answers.push(a("a.example", ADDRESS, 1))), RCODE::FormatError),
        (with(&|packet| *packet.opcode_mut() = OPCODE::Notify), RCODE::NotImplemented),
        (with(&|packet| packet.questions[0].qtype = QTYPE::TYPE(TYPE::Unknown(65400))), RCODE::NotImplemented),
        (with(&|packet| packet.questions[0].qtype = QTYPE::TYPE(TYPE::OPT)), RCODE::NotImplemented),
        (with(&|packet| packet.questions[0].qtype = QTYPE::ANY), RCODE::Refused),
        (with(&|packet| packet.questions[0].qtype = QTYPE::AXFR), RCODE::Refused),
        (with(&|packet| packet.questions[0].qclass = QCLASS::CLASS(CLASS::CH)), RCODE::Refused),
        (with(&|packet| packet.questions[0].unicast_response = true), RCODE::Refused),
        (with(&|packet| *packet.opt_mut() = version.clone()), RCODE::BADVERS),
    ];
    for (number, (bytes, rcode)) in cases.iter().enumerate() {
        let answer = Answer::of(&guest.exchange(bytes, Transport::Udp));
        assert_eq!(answer, Answer::empty(*rcode), "{number}");
    }
    assert!(guest.dns.ask(&[], Transport::Tcp, 0).is_some());
    assert!(server.asked().is_empty());
    assert_eq!(guest.look_up("a.example", TYPE::A).addresses, [ADDRESS]);
}

#[test]
fn what_is_no_name_of_a_host_is_refused() {
    let server = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    for name in ["a b.example", "$(reboot).example", "", "a\u{7f}.example"] {
        assert_eq!(guest.look_up(name, TYPE::A), Answer::empty(RCODE::Refused), "{name:?}");
    }
    // A dot within a part, which is none between two.
    let mut bytes = query("api-example.com", TYPE::A);
    let hyphen = bytes.iter().position(|byte| *byte == b'-').unwrap();
    bytes[hyphen] = b'.';
    assert_eq!(Answer::of(&guest.exchange(&bytes, Transport::Udp)), Answer::empty(RCODE::Refused));
    assert!(server.asked().is_empty());
    let events = guest.events();
    assert!(events.len() == 5 && events.iter().all(|event| event.reason == Some(Reason::Malformed)));
}

#[test]
fn a_name_that_nobody_knows_and_one_that_nobody_answers_for_are_two_things() {
    let server = FakeServer::start(|asked| vec![Said::Answer(asked.failure(RCODE::NameError))]);
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    assert_eq!(guest.look_up("none.example", TYPE::A), Answer::empty(RCODE::NameError));
    assert!(guest.events().is_empty());
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut guest = Guest::new(Mode::Guarded, &[], Resolver::with(vec![closed], vec![], vec![]));
    assert_eq!(guest.look_up("a.example", TYPE::A), Answer::empty(RCODE::ServerFailure));
    let events = guest.events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].event, events[0].host.as_deref()), (Happened::Error, Some("a.example")));
    assert!(events[0].detail.as_deref().unwrap().contains(&closed.to_string()));
}

#[test]
fn a_flood_of_questions_is_held_back_and_told_once() {
    let open = Arc::new(AtomicBool::new(false));
    let server = FakeServer::start({
        let open = open.clone();
        move |asked| {
            if !open.load(Ordering::SeqCst) {
                return vec![];
            }
            vec![Said::Answer(asked.answer(vec![a(&asked.name, ADDRESS, 60)]))]
        }
    });
    let mut guest = Guest::of(Mode::Guarded, &[], &server);
    for token in 0..64 {
        assert_eq!(guest.dns.ask(&query(&format!("{token}.example"), TYPE::A), Transport::Udp, token), None);
    }
    for _ in 0..3 {
        assert_eq!(guest.look_up("more.example", TYPE::A), Answer::empty(RCODE::ServerFailure));
    }
    // What needs nobody is answered all the same.
    assert_eq!(guest.look_up("localhost", TYPE::A).rcode, RCODE::NoError);
    let flooded = guest.events().into_iter().filter(|event| event.reason == Some(Reason::TooMany));
    assert_eq!(flooded.count(), 1);
    open.store(true, Ordering::SeqCst);
    let mut tokens = Vec::new();
    while tokens.len() < 64 {
        tokens.extend(guest.wait().into_iter().map(|(token, _)| token));
    }
    tokens.sort_unstable();
    assert_eq!(tokens, (0..64).collect::<Vec<_>>());
    assert_eq!(guest.look_up("again.example", TYPE::A).addresses, [ADDRESS]);
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(
        start in prop_oneof![Just(vec![]), Just(query("a.example", TYPE::A)), Just(query("localhost", TYPE::A))],
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        end in proptest::collection::vec(any::<u8>(), 0..40),
        tcp in any::<bool>(),
    ) {
        let mut bytes = [start, end].concat();
        for (at, byte) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let answer = crate::fuzzing::dns_query(&bytes, transport);
        prop_assert!(answer.len() >= 12 && answer[2] & 0x80 != 0);
        if bytes.len() >= 2 {
            prop_assert_eq!(&answer[..2], &bytes[..2]);
        }
    }
}
