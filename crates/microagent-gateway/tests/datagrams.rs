//! What is not a connection: datagrams, echoes, names, and the guest's address.

mod world;

use microagent_egress::{Happened, Mode, Protocol, Rules};
use microagent_testing::{Answer, pattern, run};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use world::{DEADLINE, GATEWAY_MAC, GUEST_MAC, World};

fn guarded() -> Rules {
    Rules { mode: Mode::Guarded, ..Rules::default() }
}

/// A socket of the guest's.
fn socket(world: &World) -> UdpSocket {
    let socket = world.enter_guest(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

#[test]
fn datagrams_come_back_whole_to_the_port_that_asked() {
    let Some(world) = World::new(guarded()) else { return };
    let (one, other) = (socket(&world), socket(&world));
    // As large as fits into a packet of the link.
    for (socket, size) in [(&one, 1), (&other, 2), (&one, 1472), (&other, 9000), (&one, 65_492)] {
        socket.send_to(&pattern(size), "192.0.2.10:7").unwrap();
        let mut place = vec![0; 65_536];
        let (count, from) = socket.recv_from(&mut place).unwrap();
        assert_eq!(from, "192.0.2.10:7".parse::<SocketAddr>().unwrap());
        assert!(place[..count] == pattern(size), "{size}");
    }
    let allowed = world.events().iter().filter(|event| event.event == Happened::Allow).count();
    assert_eq!(allowed, 2, "one line for each pair");
}

#[test]
fn one_port_speaks_with_many_servers() {
    let Some(world) = World::new(guarded()) else { return };
    let socket = socket(&world);
    for host in 10..=30 {
        socket.send_to(&[host], format!("192.0.2.{host}:7")).unwrap();
    }
    for _ in 10..=30 {
        let mut place = [0; 2];
        let (count, from) = socket.recv_from(&mut place).unwrap();
        assert_eq!((count, from.to_string()), (1, format!("192.0.2.{}:7", place[0])));
    }
}

#[test]
fn that_nobody_listens_is_told() {
    let Some(world) = World::new(guarded()) else { return };
    let socket = socket(&world);
    socket.connect("192.0.2.10:9999").unwrap();
    let error = loop {
        socket.send(b"hello").unwrap_or(0);
        if let Err(error) = socket.recv(&mut [0; 8]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_flood_of_ports_has_no_more_sockets_than_it_may() {
    let Some(world) = World::new(guarded()) else { return };
    for _ in 0..3000 {
        socket(&world).send_to(b"x", "192.0.2.10:9").unwrap();
    }
    let socket = socket(&world);
    socket.send_to(b"still there", "192.0.2.10:7").unwrap();
    assert_eq!(socket.recv(&mut [0; 64]).unwrap(), 11);
    // Those that had to go are over.
    world.wait_for_event(|event| event.event == Happened::Close && event.protocol == Protocol::Udp);
}

#[test]
fn gateway_and_servers_answer_a_ping() {
    let Some(world) = World::new(guarded()) else { return };
    for (host, size) in [("10.43.0.1", "56"), ("10.43.0.1", "65492"), ("192.0.2.10", "56"), ("192.0.2.10", "1400")] {
        let mut ping = world.guest_command("ping");
        let printed = run(ping.args(["-n", "-c", "3", "-i", "0.2", "-W", "30", "-M", "do", "-s", size, host]));
        assert!(String::from_utf8_lossy(&printed).contains("3 received"), "{host} {size}");
    }
    let allowed = world.wait_for_event(|event| event.protocol == Protocol::Icmp && event.event == Happened::Allow);
    assert_eq!(allowed.address, Some("192.0.2.10".parse().unwrap()));
}

#[test]
fn names_are_told_in_datagrams_and_connections() {
    let Some(world) = World::new(guarded()) else { return };
    assert_eq!(world.look_up("api.example"), ["192.0.2.10".parse::<std::net::Ipv4Addr>().unwrap()]);
    assert_eq!(world.look_up("alias.example"), ["192.0.2.10".parse::<std::net::Ipv4Addr>().unwrap()]);
    // Too many for a datagram, on both sides of the gateway: whoever asked asks again, in a connection.
    let many: Vec<String> = (0..200).map(|n| format!("198.51.100.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    world.internet().set_name("many.example", &Answer::addresses(&many));
    let printed = run(world.guest_command("dig").args(["+short", "+noedns", "+timeout=60", "many.example"]));
    assert!(String::from_utf8_lossy(&printed).lines().count() > 512 / 16);
    let text = "x".repeat(255);
    world.internet().set_name("text.example", &Answer::text(&text));
    let printed = run(world.guest_command("dig").args(["+short", "+tcp", "+timeout=60", "text.example", "TXT"]));
    assert_eq!(String::from_utf8_lossy(&printed).trim(), format!("\"{text}\""));
    let printed = run(world.guest_command("dig").args(["+timeout=60", "nobody.example"]));
    assert!(String::from_utf8_lossy(&printed).contains("NXDOMAIN"));
}

#[test]
fn questions_follow_each_other_in_one_connection() {
    use std::io::{Read, Write};
    let Some(world) = World::new(guarded()) else { return };
    let mut stream = world.connect("10.43.0.1:53").unwrap();
    let question = |id: u16| {
        let mut message = id.to_be_bytes().to_vec();
        message.extend(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03api\x07example\x00\x00\x01\x00\x01");
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    // More than are answered at once, in pieces that have nothing to do with them.
    let all: Vec<u8> = (0..100).flat_map(question).collect();
    for piece in all.chunks(777) {
        stream.write_all(piece).unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..100 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.ends_with(&[192, 0, 2, 10]), "{answer:02x?}");
        seen.push(u16::from_be_bytes([answer[0], answer[1]]));
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..100));
}

#[test]
fn the_guest_gets_its_address_by_dhcp() {
    let Some(world) = World::new(guarded()) else { return };
    // A client that has no address yet, by hand: what a kernel sends with `ip=dhcp`.
    let received = world.enter_guest(|| {
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut message = vec![0; 240];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(b"\x01\x02\x03\x04");
        message[28..34].copy_from_slice(&GUEST_MAC);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, 1, 255]);
        socket.send_to(&message, "255.255.255.255:67").unwrap();
        let mut place = vec![0; 1500];
        let count = socket.recv(&mut place).unwrap();
        place.truncate(count);
        place
    });
    assert_eq!((received[0], &received[4..8], &received[16..20]), (2, &b"\x01\x02\x03\x04"[..], &[10, 43, 0, 2][..]));
    let has = |option: &[u8]| received[240..].windows(option.len()).any(|window| window == option);
    assert!(has(&[53, 1, 2]) && has(&[3, 4, 10, 43, 0, 1]) && has(&[6, 4, 10, 43, 0, 1]) && has(&[26, 2, 0xff, 0xf0]));
}

#[test]
fn the_gateway_has_its_own_address_and_no_other() {
    let Some(world) = World::new(guarded()) else { return };
    run(world.guest_command("ping").args(["-n", "-c", "1", "-W", "30", "10.43.0.1"]));
    let printed = run(world.guest_command("ip").args(["neighbour", "show", "10.43.0.1"]));
    let mac = GATEWAY_MAC.map(|byte| format!("{byte:02x}")).join(":");
    assert!(String::from_utf8_lossy(&printed).contains(&mac));
    let error = world.connect("10.43.0.3:80").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
}
