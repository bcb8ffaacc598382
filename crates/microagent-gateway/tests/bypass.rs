//! Ways past the policy that are none: each is tried, nothing of it arrives anywhere, and the record says so.

mod attempt;
mod world;

use attempt::{Hello, assert_unspoken, guarded, strict};
use microagent_egress::{Happened, Inside, Protocol, Reason};
use microagent_testing::{Answer, Kind};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use world::{DEADLINE, World};

/// `www.example`, which the rules below list.
const WWW: &str = "192.0.2.14";
/// `evil.example`, which they do not.
const EVIL: &str = "192.0.2.13";

/// What comes back for `said`, until the end or a reset.
fn exchange(mut stream: TcpStream, said: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(said);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    heard
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A world whose guest knows where `www.example` is.
fn strict_world(allow: &[&str], passthrough: &[&str]) -> Option<World> {
    let world = World::new(strict(allow, passthrough))?;
    assert_eq!(world.look_up("www.example"), [WWW.parse::<std::net::Ipv4Addr>().unwrap()]);
    Some(world)
}

#[test]
fn an_address_that_no_name_was_asked_for_is_out_of_reach() {
    let Some(world) = strict_world(&["www.example"], &[]) else { return };
    let error = world.connect(&format!("{EVIL}:443")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    world.wait_for_denial(EVIL, Reason::NoName);
    world.assert_untouched(EVIL);
}

#[test]
fn a_name_that_is_not_listed_is_not_even_asked_for() {
    let Some(world) = strict_world(&["www.example"], &[]) else { return };
    assert!(world.look_up("evil.example").is_empty());
    assert!(world.look_up("secret.evil.example").is_empty());
    world.wait_for_denial("secret.evil.example", Reason::NotListed);
    let asked = world.internet().journal().into_iter().filter(|seen| seen.kind == Kind::Question);
    assert!(asked.into_iter().all(|seen| seen.text("name") == "www.example"));
}

#[test]
fn a_denied_web_site_says_why() {
    let Some(world) = strict_world(&["www.example"], &[]) else { return };
    let got = world.curl(&["-i", "--resolve", &format!("evil.example:80:{EVIL}"), "http://evil.example/"]);
    let got = text(&got.stdout);
    assert!(got.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{got}");
    assert!(got.contains("microagent: egress to evil.example denied: ") && got.contains("(no-name)"), "{got}");
    assert!(got.contains(Reason::NoName.hint()), "{got}");
    world.wait_for_denial(EVIL, Reason::NoName);
    world.assert_untouched(EVIL);
    // Who asks nothing, or something else, gets nothing.
    let stream = world.connect(&format!("{EVIL}:80")).unwrap();
    assert_eq!(exchange(stream, b"EHLO evil\r\n"), b"");
    let stream = world.connect(&format!("{EVIL}:80")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(exchange(stream, b""), b"");
    world.assert_untouched(EVIL);
}

#[test]
fn another_host_in_the_request_is_found_out() {
    let Some(world) = strict_world(&[], &["www.example"]) else { return };
    let requests: [(&str, Reason); 6] = [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", Reason::NameMismatch),
        ("GET / HTTP/1.1\r\nHost: www.example\r\nHost: evil.example\r\n\r\n", Reason::NoServerName),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n", Reason::NoServerName),
        ("GET / HTTP/1.1\r\nHost : evil.example\r\nHost: www.example\r\n\r\n", Reason::NoServerName),
        ("GET / HTTP/1.1\r\nX: y\r\n\r\n", Reason::NoServerName),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::NoServerName),
    ];
    for (request, reason) in requests {
        let stream = world.connect(&format!("{WWW}:80")).unwrap();
        let got = text(&exchange(stream, request.as_bytes()));
        assert!(got.starts_with("HTTP/1.1 403") && got.contains(reason.name()), "{request:?}: {got}");
    }
    world.wait_for_denial("evil.example", Reason::NameMismatch);
    world.wait_for_denial("www.example", Reason::NoServerName);
    assert_unspoken(&world, WWW);
}

#[test]
fn another_server_in_the_hello_is_found_out_and_told() {
    let Some(world) = strict_world(&[], &["www.example"]) else { return };
    let stream = world.connect(&format!("{WWW}:443")).unwrap();
    let got = exchange(stream, &Hello::to("evil.example").bytes());
    assert_eq!(got, [21, 3, 3, 0, 2, 2, 49], "a fatal alert that says `access denied`");
    world.wait_for_denial("evil.example", Reason::NameMismatch);
    assert_unspoken(&world, WWW);
    // And a real client.
    let got = world.curl(&["--resolve", &format!("evil.example:443:{WWW}"), "https://evil.example/"]);
    assert!(!got.status.success() && text(&got.stderr).contains("denied"), "{}", text(&got.stderr));
    assert_unspoken(&world, WWW);
    assert!(world.curl(&["https://www.example/"]).status.success());
}

#[test]
fn a_hello_in_small_pieces_is_read_whole_before_any_of_it_leaves() {
    let Some(world) = strict_world(&[], &["www.example"]) else { return };
    let mut stream = world.connect(&format!("{WWW}:443")).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in Hello::to("evil.example").bytes() {
        let _ = stream.write_all(&[byte]);
    }
    assert_eq!(exchange(stream, b""), [21, 3, 3, 0, 2, 2, 49]);
    world.wait_for_denial("evil.example", Reason::NameMismatch);
    assert_unspoken(&world, WWW);
}

#[test]
fn a_hello_that_names_nobody_goes_nowhere() {
    let Some(world) = strict_world(&[], &["www.example"]) else { return };
    let got = world.curl(&["--insecure", &format!("https://{WWW}/")]);
    assert!(!got.status.success());
    world.wait_for_denial("www.example", Reason::NoServerName);
    assert_unspoken(&world, WWW);
}

#[test]
fn a_hello_that_hides_another_goes_nowhere() {
    let Some(world) = strict_world(&[], &["www.example"]) else { return };
    let hello = Hello { encrypted: true, ..Hello::to("www.example") };
    let stream = world.connect(&format!("{WWW}:443")).unwrap();
    assert_eq!(exchange(stream, &hello.bytes()), [21, 3, 3, 0, 2, 2, 49]);
    world.wait_for_denial("www.example", Reason::EncryptedHello);
    assert_unspoken(&world, WWW);
    // Nor is there a way to learn how (RFC 9460).
    world.internet().set_name("www.example", &Answer::record(65, b"\0\x01\0").and(Answer::addresses(&[WWW])));
    let printed =
        microagent_testing::run(world.guest_command("dig").args(["+short", "+timeout=60", "www.example", "TYPE65"]));
    assert_eq!(text(&printed), "");
}

#[test]
fn another_protocol_to_a_host_that_is_to_be_looked_into_goes_nowhere() {
    let Some(world) = strict_world(&["www.example"], &[]) else { return };
    // Whoever speaks first: the server's greeting is for nobody. It may be there before the guest has its connection.
    if let Ok(stream) = world.connect(&format!("{WWW}:22")) {
        assert_eq!(exchange(stream, b""), b"");
    }
    let stream = world.connect(&format!("{WWW}:7")).unwrap();
    assert_eq!(exchange(stream, b"\x00\x01\x02\x03 not a request"), b"");
    world.wait_for_event(|event| event.reason == Some(Reason::NotInspectable) && event.port == Some(22));
    world.wait_for_event(|event| event.reason == Some(Reason::NotInspectable) && event.port == Some(7));
    assert_unspoken(&world, WWW);
}

#[test]
fn a_host_that_is_to_be_looked_into_is_not_passed_on_without_somebody_to_look() {
    let Some(world) = strict_world(&["www.example"], &[]) else { return };
    assert!(!world.curl(&["https://www.example/"]).status.success());
    assert!(text(&world.curl(&["http://www.example/"]).stdout).contains("not-inspectable"));
    world.wait_for_denial("www.example", Reason::NotInspectable);
    assert_unspoken(&world, WWW);
}

#[test]
fn quic_is_refused_so_that_clients_use_tcp() {
    let Some(world) = strict_world(&[], &["www.example"]) else { return };
    let socket = world.enter_guest(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(format!("{WWW}:443")).unwrap();
    socket.send(&[0xc0; 1200]).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::HostUnreachable);
    let denied = world.wait_for_denial("www.example", Reason::Quic);
    assert_eq!(denied.protocol, Protocol::Udp);
    world.assert_untouched(WWW);
}

#[test]
fn a_resolver_of_the_guests_own_is_out_of_reach() {
    let Some(world) = World::new(guarded(&[])) else { return };
    let asked = world.guest_command("dig").args(["@192.0.2.53", "+tries=1", "+timeout=60", "evil.example"]).output();
    assert!(!asked.unwrap().status.success());
    for port in [53, 853] {
        let error = world.connect(&format!("192.0.2.53:{port}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    let denied = |protocol, port| {
        world.wait_for_event(|event| {
            event.reason == Some(Reason::ForeignResolver) && (event.protocol, event.port) == (protocol, Some(port))
        })
    };
    denied(Protocol::Udp, 53);
    denied(Protocol::Tcp, 53);
    denied(Protocol::Tcp, 853);
    world.assert_untouched("192.0.2.53");
}

#[test]
fn the_metadata_service_is_out_of_reach_by_address_and_by_name() {
    let Some(world) = World::new(guarded(&[])) else { return };
    let got = world.curl(&["-i", "http://169.254.169.254/latest/meta-data/"]);
    assert!(text(&got.stdout).contains("(inside-link-local)"), "{}", text(&got.stdout));
    world.wait_for_denial("169.254.169.254", Reason::Inside(Inside::LinkLocal));
    // A name of it is not told, so that no program gets the idea.
    assert!(world.look_up("metadata.example").is_empty());
    world.wait_for_denial("metadata.example", Reason::Inside(Inside::LinkLocal));
    world.assert_untouched("169.254.169.254");
}

#[test]
fn networks_around_the_host_and_the_host_itself_are_out_of_reach() {
    let Some(world) = World::new(guarded(&[])) else { return };
    let places = [
        ("10.9.9.9", Inside::Private),
        ("172.16.5.5", Inside::Private),
        ("100.64.1.1", Inside::SharedNat),
        ("203.0.113.1", Inside::Host),
    ];
    for (address, class) in places {
        let error = world.connect(&format!("{address}:443")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
        world.wait_for_denial(address, Reason::Inside(class));
        world.assert_untouched(address);
    }
    // Listing one is meaning it.
    let Some(world) = World::new(guarded(&["10.9.9.9"])) else { return };
    assert!(world.curl(&["http://10.9.9.9/"]).status.success());
}

#[test]
fn a_name_that_turns_inside_after_it_was_looked_at_stays_out() {
    let Some(world) = World::new(guarded(&[])) else { return };
    let rebinding = Answer::addresses(&[EVIL]).then(Answer::addresses(&["127.0.0.1"]));
    world.internet().set_name("rebind.example", &rebinding);
    assert_eq!(world.look_up("rebind.example").len(), 1);
    assert!(world.look_up("rebind.example").is_empty(), "the second answer is not passed on");
    world.wait_for_denial("rebind.example", Reason::Inside(Inside::Loopback));
    // To a private address it may turn, and that is denied when it is connected to.
    let rebinding = Answer::addresses(&[EVIL]).then(Answer::addresses(&["10.9.9.9"]));
    world.internet().set_name("other-rebind.example", &rebinding);
    for _ in 0..2 {
        let _ = world.curl(&["http://other-rebind.example/"]);
    }
    world.wait_for_denial("10.9.9.9", Reason::Inside(Inside::Private));
    world.assert_untouched("10.9.9.9");
}

#[test]
fn a_tunnel_through_a_host_that_is_passed_on_is_that_hosts_affair() {
    let Some(world) = strict_world(&[], &["www.example"]) else { return };
    let request = format!("CONNECT {EVIL}:6667 HTTP/1.1\r\nHost: www.example\r\n\r\n");
    let mut stream = world.connect(&format!("{WWW}:3128")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut heard = [0; 12];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"HTTP/1.1 200");
    // It is in the record under the name that was allowed.
    let allowed = world.wait_for_event(|event| event.event == Happened::Allow && event.port == Some(3128));
    assert_eq!(allowed.host.as_deref(), Some("www.example"));
    // One that is for somebody else is not.
    let stream = world.connect(&format!("{WWW}:3128")).unwrap();
    let got = exchange(stream, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n");
    assert!(text(&got).contains("(name-mismatch)"), "{}", text(&got));
    world.wait_for_denial("evil.example", Reason::NameMismatch);
}

#[test]
fn datagrams_and_echoes_to_who_is_not_listed_are_refused() {
    let Some(world) = strict_world(&["www.example"], &[]) else { return };
    let socket = world.enter_guest(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(format!("{EVIL}:123")).unwrap();
    socket.send(b"hello").unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::HostUnreachable);
    let denied = world.wait_for_denial(EVIL, Reason::NoName);
    assert_eq!((denied.protocol, denied.port), (Protocol::Udp, Some(123)));
    let pinged = world.guest_command("ping").args(["-n", "-c", "1", "-W", "30", EVIL]).output().unwrap();
    assert!(text(&pinged.stdout).contains("Packet filtered"), "{}", text(&pinged.stdout));
    world.wait_for_event(|event| event.protocol == Protocol::Icmp && event.reason == Some(Reason::NoName));
    // Nor are those to who is listed, since nobody could look into them.
    socket.connect(format!("{WWW}:123")).unwrap();
    socket.send(b"hello").unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::HostUnreachable);
    world.wait_for_denial("www.example", Reason::NotInspectable);
    world.assert_untouched(EVIL);
    world.assert_untouched(WWW);
}

#[test]
fn in_guarded_mode_what_is_not_listed_is_passed_on_as_it_is() {
    let Some(world) = World::new(guarded(&["www.example"])) else { return };
    // The counterpart of the above: nothing of this would be a bypass.
    assert!(world.curl(&["https://evil.example/", "http://evil.example/"]).status.success());
    assert!(world.curl(&["--insecure", &format!("https://{EVIL}/")]).status.success());
}
