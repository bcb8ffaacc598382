//! Ways past the policy that no well-behaved kernel would go: what the guest's kernel does not do is put on its link by
//! hand.

mod attempt;
mod world;

use attempt::{datagram, guarded, packet, strict, syn};
use microagent_egress::{Event, Inside, Protocol, Reason};
use microagent_testing::{Internet, Kind, Place};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;
use world::{DEADLINE, GATEWAY_MAC, GUEST_MAC, World};

const UDP: u8 = 17;
const TCP: u8 = 6;
/// More fragments follow.
const MORE: u16 = 0x2000;

/// The line about something that has no place here.
fn wait_for_oddity(world: &World, what: &str) -> Event {
    world.wait_for_event(|event| {
        event.reason == Some(Reason::Protocol)
            && event.protocol == Protocol::Other
            && event.detail.as_deref() == Some(what)
    })
}

/// That the gateway still does its work.
fn assert_works(world: &World) {
    let mut stream = world.connect("192.0.2.20:7").unwrap();
    stream.write_all(b"works").unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"works");
}

#[test]
fn loopback_of_the_host_is_out_of_reach_in_every_mode() {
    for rules in [guarded(&[]), microagent_egress::Rules { mode: microagent_egress::Mode::Off, ..Default::default() }] {
        let Some(world) = World::new(rules) else { return };
        for (n, port) in [80u16, 443, 7, 53].into_iter().enumerate() {
            let from = 40_000 + n as u16;
            world.send_packet(&packet("10.43.0.2", "127.0.0.1", TCP, 0, &syn(from, port)));
            world.send_packet(&packet("10.43.0.2", "127.0.0.1", UDP, 0, &datagram(from, port, b"hello")));
        }
        for address in ["127.1.2.3", "0.0.0.0", "0.1.2.3", "10.43.0.3", "10.43.0.2", "255.255.255.255", "224.0.0.251"] {
            world.send_packet(&packet("10.43.0.2", address, TCP, 0, &syn(40_000, 80)));
            world.send_packet(&packet("10.43.0.2", address, UDP, 0, &datagram(40_000, 7, b"hello")));
        }
        world.wait_for_denial("127.0.0.1", Reason::Inside(Inside::Loopback));
        world.wait_for_denial("0.1.2.3", Reason::Inside(Inside::Unspecified));
        world.wait_for_denial("10.43.0.3", Reason::Inside(Inside::Private));
        world.wait_for_denial("255.255.255.255", Reason::Inside(Inside::Reserved));
        world.wait_for_denial("224.0.0.251", Reason::Inside(Inside::Multicast));
        assert_works(&world);
        // Nothing that runs on the host has seen anything.
        let seen = world.internet().journal();
        assert!(seen.iter().all(|seen| seen.place == Place::Net), "{seen:?}");
    }
}

#[test]
fn a_source_that_is_not_the_guests_is_not_listened_to() {
    let Some(world) = World::new(guarded(&[])) else { return };
    for from in ["10.43.0.1", "10.43.0.3", "192.0.2.13", "127.0.0.1", "0.0.0.0", "255.255.255.255"] {
        world.send_packet(&packet(from, "192.0.2.10", UDP, 0, &datagram(1000, 7, b"spoofed")));
        world.send_packet(&packet(from, "192.0.2.10", TCP, 0, &syn(1000, 7)));
    }
    wait_for_oddity(&world, "a packet from another address");
    let inside = packet("10.43.0.2", "192.0.2.10", UDP, 0, &datagram(1000, 7, b"spoofed"));
    let mut mac = GUEST_MAC;
    mac[5] ^= 1;
    world.send_frame(&[&GATEWAY_MAC[..], &mac, &[8, 0], &inside].concat());
    wait_for_oddity(&world, "a frame from another address");
    // Nor is what is for another.
    world.send_frame(&[&mac[..], &GUEST_MAC, &[8, 0], &inside].concat());
    assert_works(&world);
    world.assert_untouched("192.0.2.10");
}

#[test]
fn fragments_are_not_put_together_and_not_passed_on() {
    let Some(world) = World::new(guarded(&[])) else { return };
    let whole = datagram(1000, 7, &[7; 1000]);
    world.send_packet(&packet("10.43.0.2", "192.0.2.10", UDP, MORE, &whole[..504]));
    world.send_packet(&packet("10.43.0.2", "192.0.2.10", UDP, 63, &whole[504..]));
    // The header of a segment in two parts, which filters have been fooled by (RFC 1858).
    let segment = syn(1000, 7);
    world.send_packet(&packet("10.43.0.2", "192.0.2.10", TCP, MORE, &segment[..8]));
    world.send_packet(&packet("10.43.0.2", "192.0.2.10", TCP, 1, &segment[8..]));
    // And what a kernel makes of a datagram that is larger than the link.
    let socket = world.enter_guest(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.send_to(&vec![7; 65_507], "192.0.2.10:7").unwrap();
    wait_for_oddity(&world, "a fragment");
    assert_works(&world);
    world.assert_untouched("192.0.2.10");
}

#[test]
fn ipv6_goes_nowhere_and_ipv4_in_its_clothes_is_ipv4() {
    let Some(world) = World::new(guarded(&[])) else { return };
    world.enable_ipv6();
    let connect = |to: &str| {
        let to = to.parse().unwrap();
        world.enter_guest(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))
    };
    assert!(connect("[2001:db8::1]:80").is_err());
    wait_for_oddity(&world, "IPv6");
    assert!(connect("[::ffff:169.254.169.254]:443").is_err());
    world.wait_for_denial("169.254.169.254", Reason::Inside(Inside::LinkLocal));
    assert!(connect("[64:ff9b::a9fe:a9fe]:80").is_err());
    assert_works(&world);
    world.assert_untouched("169.254.169.254");
    assert!(world.internet().journal().iter().all(|seen| seen.text("protocol") != "ipv6"));
}

#[test]
fn other_protocols_go_nowhere() {
    let Some(world) = World::new(guarded(&[])) else { return };
    // IGMP, IP in IP, 6in4, GRE, ESP, SCTP, UDP-Lite.
    for protocol in [2, 4, 41, 47, 50, 132, 136] {
        world.send_packet(&packet("10.43.0.2", "192.0.2.10", protocol, 0, &[7; 64]));
        wait_for_oddity(&world, &format!("IP protocol {protocol}"));
    }
    world.send_frame(&[&GATEWAY_MAC[..], &GUEST_MAC, &[0x81, 0, 0, 1, 8, 0], &[7; 64]].concat());
    wait_for_oddity(&world, "neither IP nor ARP");
    // Control messages but echo requests are for nobody.
    for kind in [3, 5, 13, 17] {
        world.send_packet(&packet("10.43.0.2", "192.0.2.10", 1, 0, &[kind, 0, 0, 0, 0, 0, 0, 0]));
    }
    assert_works(&world);
    world.assert_untouched("192.0.2.10");
}

#[test]
fn a_flood_of_connections_ends_at_the_limit_and_stops_nobody_else() {
    let Some(world) = World::new(guarded(&[])) else { return };
    // One that is there already, and stays.
    let mut stream = world.connect("192.0.2.20:7").unwrap();
    let silent = Internet::SILENT.to_string();
    for from in 1..=9000u16 {
        world.send_packet(&packet("10.43.0.2", &silent, TCP, 0, &syn(from, 80)));
    }
    let denied = world.wait_for_event(|event| event.reason == Some(Reason::TooMany));
    assert_eq!(denied.protocol, Protocol::Tcp);
    stream.write_all(b"works").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let socket = world.enter_guest(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.send_to(b"works", "192.0.2.20:7").unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
    let lines = world.events().iter().filter(|event| event.reason == Some(Reason::TooMany)).count();
    assert_eq!(lines, 1, "one line a minute");
}

#[test]
fn a_flood_of_denials_is_one_line_a_second() {
    let Some(world) = World::new(strict(&["www.example"], &[])) else { return };
    for from in 1..=5000 {
        world.send_packet(&packet("10.43.0.2", "192.0.2.13", UDP, 0, &datagram(from, 9, b"x")));
        world.send_packet(&packet("10.43.0.2", "192.0.2.13", TCP, 0, &syn(from, 443)));
    }
    world.wait_for_denial("192.0.2.13", Reason::NoName);
    // Those before are done when this one is.
    assert!(world.connect("192.0.2.12:443").is_err());
    world.wait_for_denial("192.0.2.12", Reason::NoName);
    let lines = world.events().iter().filter(|event| event.reason == Some(Reason::NoName)).count();
    assert!(lines < 200, "{lines} lines");
    world.assert_untouched("192.0.2.13");
}

#[test]
fn noise_is_survived() {
    let Some(world) = World::new(guarded(&[])) else { return };
    // Whatever is at the end of a frame, and in every field of every header.
    let headers = [
        packet("10.43.0.2", "192.0.2.10", TCP, 0, &syn(1, 7)),
        packet("10.43.0.2", "10.43.0.1", UDP, 0, &datagram(1, 53, &[7; 40])),
        packet("10.43.0.2", "10.43.0.1", UDP, 0, &datagram(68, 67, &[7; 300])),
        packet("10.43.0.2", "10.43.0.1", 1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for header in &headers {
        for at in 0..header.len().min(60) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut packet = header.clone();
                packet[at] = value;
                assert!(world.send_packet(&packet));
                assert!(world.send_packet(&packet[..at]));
            }
        }
    }
    for length in 0..20 {
        assert!(world.send_frame(&vec![0xff; length]));
    }
    assert_works(&world);
}

#[test]
fn a_frame_that_cannot_be_ends_the_link() {
    let Some(world) = World::new(guarded(&[])) else { return };
    world.send_bytes(&u32::MAX.to_be_bytes());
    // The gateway reads no further, so that in the end there is nobody to write to.
    while world.send_bytes(&[0; 1024]) {}
    assert!(world.internet().journal().iter().all(|seen| seen.kind != Kind::Datagram));
}
