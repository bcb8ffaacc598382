use super::testing::{FakeServer, Said, a, cname, record};
use super::*;
use simple_dns::rdata::{AAAA, RData};
use simple_dns::{QTYPE, RCODE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn resolver(servers: &[&FakeServer]) -> Resolver {
    Resolver::with(servers.iter().map(|server| server.address).collect(), vec![], vec![])
}

fn addresses(resolver: &Resolver, name: &str) -> Vec<Ipv4Addr> {
    resolver.lookup(name, TYPE::A).unwrap().addresses()
}

#[test]
fn an_answer_that_is_not_whole_is_asked_for_by_tcp() {
    let server = FakeServer::start(|asked| match asked.transport {
        Transport::Udp => vec![Said::Answer(asked.truncated())],
        Transport::Tcp => {
            let records = (0..60).map(|count| a(&asked.name, Ipv4Addr::new(192, 0, 2, count), 60));
            vec![Said::Answer(asked.answer(records.collect()))]
        }
    });
    assert_eq!(addresses(&resolver(&[&server]), "big.example").len(), 60);
    let transports: Vec<_> = server.asked().into_iter().map(|(transport, _)| transport).collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp]);
}

#[test]
fn answers_that_somebody_else_made_up_are_passed_over() {
    let server = FakeServer::start(|asked| {
        let forged = |id, name: &str| {
            let mut packet = asked.packet(vec![a(name, Ipv4Addr::new(192, 0, 2, 66), 60)]);
            packet.set_id(id);
            packet.build_bytes_vec().unwrap()
        };
        let mut other = asked.packet(vec![a("b.example", Ipv4Addr::new(192, 0, 2, 66), 60)]);
        other.questions[0].qname = testing::name("b.example");
        vec![
            Said::Elsewhere(forged(asked.id, &asked.name)),
            Said::Answer(forged(asked.id ^ 1, &asked.name)),
            Said::Answer(other.build_bytes_vec().unwrap()),
            Said::Answer(vec![1]),
            Said::Answer(asked.answer(vec![a(&asked.name, ADDRESS, 60)])),
        ]
    });
    assert_eq!(addresses(&resolver(&[&server]), "a.example"), [ADDRESS]);
}

#[test]
fn a_server_that_is_silent_is_followed_by_the_next() {
    let silent = FakeServer::start(|_| vec![]);
    let good = FakeServer::with_addresses(&["192.0.2.1"], 60);
    assert_eq!(addresses(&resolver(&[&silent, &good]), "a.example"), [ADDRESS]);
    assert_eq!((silent.asked().len(), good.asked().len()), (1, 1));
}

#[test]
fn a_server_that_fails_is_followed_by_the_next() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failing = FakeServer::start(|asked| vec![Said::Answer(asked.failure(RCODE::ServerFailure))]);
    let refusing = FakeServer::start(|asked| vec![Said::Answer(asked.failure(RCODE::Refused))]);
    let babbling = FakeServer::start(|asked| {
        let mut bytes = asked.answer(vec![a(&asked.name, Ipv4Addr::new(192, 0, 2, 66), 60)]);
        bytes.truncate(bytes.len() - 3);
        vec![Said::Answer(bytes)]
    });
    let good = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let servers = vec![closed, failing.address, refusing.address, babbling.address, good.address];
    assert_eq!(addresses(&Resolver::with(servers, vec![], vec![]), "a.example"), [ADDRESS]);
    // Nobody is asked twice for the same failure.
    let error = resolver(&[&failing, &refusing]).lookup("a.example", TYPE::A).unwrap_err();
    assert!(error.to_string().contains("a.example"), "{error}");
    assert_eq!((failing.asked().len(), refusing.asked().len()), (2, 2));
}

#[test]
fn a_server_that_never_ends_by_tcp_is_followed_by_the_next() {
    // It accepts, in the kernel, and says nothing.
    let (listener, udp) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(listener.local_addr().unwrap()) {
            break (listener, udp);
        }
    };
    let truncating = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (count, from) = udp.recv_from(&mut buffer).unwrap();
        buffer[2] |= 0x82;
        udp.send_to(&buffer[..count], from).unwrap();
    });
    let good = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let servers: Vec<SocketAddr> = vec![listener.local_addr().unwrap(), good.address];
    assert_eq!(addresses(&Resolver::with(servers, vec![], vec![]), "a.example"), [ADDRESS]);
    truncating.join().unwrap();
}

#[test]
fn a_name_that_is_none_is_told_from_one_without_addresses() {
    let server = FakeServer::start(|asked| match asked.name.as_str() {
        "none.example" => vec![Said::Answer(asked.failure(RCODE::NameError))],
        _ => vec![Said::Answer(asked.answer(vec![]))],
    });
    let resolver = resolver(&[&server]);
    assert_eq!(resolver.lookup("none.example", TYPE::A).unwrap().rcode, RCODE::NameError);
    assert_eq!(resolver.lookup("empty.example", TYPE::A).unwrap().rcode, RCODE::NoError);
    assert!(matches!(resolver.addresses("none.example"), Err(LookupError::NoAddress { .. })));
}

#[test]
fn names_of_one_part_are_searched_for_and_others_are_not() {
    let server = FakeServer::start(|asked| match asked.name.as_str() {
        "db.b.example" => vec![Said::Answer(
            asked.answer(vec![cname("db.b.example", "real.example", 50), a("real.example", ADDRESS, 60)]),
        )],
        _ => vec![Said::Answer(asked.failure(RCODE::NameError))],
    });
    let search = vec!["a.example".to_owned(), "b.example".to_owned()];
    let resolver = Resolver::with(vec![server.address], search, vec![]);
    let reply = resolver.lookup("db", TYPE::A).unwrap();
    assert_eq!(reply.records[..2], [cname("db", "db.b.example", 50), cname("db.b.example", "real.example", 50)]);
    assert_eq!(reply.addresses(), [ADDRESS]);
    assert_eq!(resolver.lookup("db.c", TYPE::A).unwrap().rcode, RCODE::NameError);
    assert_eq!(resolver.lookup("x", TYPE::A).unwrap().rcode, RCODE::NameError);
    let asked: Vec<_> = server.asked().into_iter().map(|(_, name)| name).collect();
    assert_eq!(asked, ["db.a.example", "db.b.example", "db.c", "x.a.example", "x.b.example", "x"]);
}

#[test]
fn a_domain_whose_servers_fail_does_not_hide_the_name_itself() {
    let server = FakeServer::start(|asked| match asked.name.as_str() {
        "db" => vec![Said::Answer(asked.answer(vec![a("db", ADDRESS, 60)]))],
        "x" => vec![Said::Answer(asked.failure(RCODE::NameError))],
        _ => vec![Said::Answer(asked.failure(RCODE::ServerFailure))],
    });
    let resolver = Resolver::with(vec![server.address], vec!["broken.example".to_owned()], vec![]);
    assert_eq!(addresses(&resolver, "db"), [ADDRESS]);
    assert!(matches!(resolver.lookup("x", TYPE::A), Err(LookupError::NoAnswer { .. })));
}

#[test]
fn the_hosts_own_names_are_asked_of_nobody() {
    let server = FakeServer::with_addresses(&["192.0.2.1"], 60);
    let hosts = vec![
        ("Box".to_owned(), "10.0.0.7".parse().unwrap()),
        ("box".to_owned(), "2001:db8::7".parse().unwrap()),
        ("six".to_owned(), "2001:db8::6".parse().unwrap()),
    ];
    let resolver = Resolver::with(vec![server.address], vec![], hosts);
    assert_eq!(addresses(&resolver, "box"), [Ipv4Addr::new(10, 0, 0, 7)]);
    assert_eq!(resolver.addresses("BOX.").unwrap().len(), 2);
    assert!(server.asked().is_empty());
    assert_eq!(addresses(&resolver, "six"), [ADDRESS]);
}

#[test]
fn our_own_lookups_take_an_address_of_either_kind() {
    let server = FakeServer::start(|asked| match asked.question.qtype {
        QTYPE::TYPE(TYPE::AAAA) => {
            let address = AAAA { address: Ipv6Addr::LOCALHOST.to_bits() };
            vec![Said::Answer(asked.answer(vec![record(&asked.name, 60, RData::AAAA(address))]))]
        }
        _ => vec![Said::Answer(asked.answer(vec![]))],
    });
    let resolver = resolver(&[&server]);
    assert_eq!(resolver.addresses("192.0.2.9").unwrap(), [IpAddr::from([192, 0, 2, 9])]);
    assert_eq!(resolver.addresses("localhost").unwrap(), [IpAddr::from([127, 0, 0, 1])]);
    assert_eq!(resolver.addresses("six.example").unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    assert!(matches!(resolver.addresses("a b"), Err(LookupError::BadName { .. })));
}

#[test]
fn a_change_of_the_hosts_files_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (resolv, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    std::fs::write(&resolv, "nameserver 192.0.2.53\n").unwrap();
    let resolver = Resolver::of_files(&resolv, &hosts);
    for address in ["10.0.0.1", "10.0.0.22"] {
        // As it is changed by those who do it right.
        let new = dir.path().join("new");
        std::fs::write(&new, format!("{address} box\n")).unwrap();
        std::fs::rename(&new, &hosts).unwrap();
        assert_eq!(addresses(&resolver.clone(), "box"), [address.parse::<Ipv4Addr>().unwrap()]);
    }
}

#[test]
fn a_lookup_ends_when_nobody_answers() {
    let silent = FakeServer::start(|_| vec![]);
    let start = Instant::now();
    let error = resolver(&[&silent]).lookup("a.example", TYPE::A).unwrap_err();
    assert!(matches!(error, LookupError::NoAnswer { .. }));
    assert_eq!(silent.asked().len(), 2);
    // Twice two seconds, on a machine that has much else to do.
    assert!(start.elapsed() < Duration::from_secs(30));
}
