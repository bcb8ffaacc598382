//! Ways that a connection takes which is allowed: through a proxy of the host, or through somebody who looks into it.

mod attempt;
mod world;

use attempt::{Hello, guarded, strict};
use microagent_egress::{Happened, Reason};
use microagent_gateway::proxy::Proxies;
use microagent_gateway::{Connection, Intercept};
use microagent_testing::{Kind, pattern};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use world::{DEADLINE, World};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A world whose host has a proxy for everything.
fn proxied(proxy: &str) -> Option<World> {
    World::with(guarded(&[]), |options, _| {
        options.proxies = Proxies::from_values(Some(proxy), Some(proxy), None).unwrap();
    })
}

#[test]
fn through_a_proxy_a_connection_goes_to_the_address_that_was_decided_on() {
    let Some(world) = proxied("http://user:secret@192.0.2.21:3128") else { return };
    let got = world.curl(&["https://api.example/bytes/100000", "http://api.example/bytes/100000"]);
    assert!(got.status.success() && got.stdout == pattern(100_000).repeat(2), "{}", text(&got.stderr));
    for port in [443, 80] {
        let target = format!("192.0.2.10:{port}");
        let seen =
            world.internet().wait_for(|seen| seen.kind == Kind::Request && seen.text("target") == target, DEADLINE);
        assert_eq!((seen.text("method"), seen.local.ip().to_string().as_str()), ("CONNECT", "192.0.2.21"));
        assert!(seen.details["headers"].to_string().contains("Basic dXNlcjpzZWNyZXQ="));
    }
    // Whoever speaks first, and however much, nothing of it is lost.
    let mut stream = world.connect("192.0.2.10:22").unwrap();
    let mut heard = [0; 14];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"SSH-2.0-test\r\n");
    let record = std::fs::read_to_string(world.log()).unwrap();
    assert!(record.contains("api.example") && !record.contains("secret") && !record.contains("dXNl"));
}

#[test]
fn a_proxy_is_found_by_its_name() {
    let Some(world) = proxied("http://pinned.example:3128") else { return };
    assert!(world.curl(&["https://api.example/"]).status.success());
    world.internet().wait_for(|seen| seen.kind == Kind::Request && seen.is_at("192.0.2.11:3128"), DEADLINE);
    // The guest did not ask for it, so its address is none of a name that the guest knows.
    assert!(world.events().iter().all(|event| event.host.as_deref() != Some("pinned.example")));
}

#[test]
fn what_a_proxy_refuses_is_refused_and_the_record_says_by_whom() {
    let Some(world) = proxied("http://192.0.2.21:3128") else { return };
    assert!(world.connect("192.0.2.10:1").is_err());
    let failed = world.wait_for_event(|event| event.event == Happened::Error);
    assert!(failed.detail.unwrap().contains("502"));
    let Some(world) = proxied("http://192.0.2.21:1") else { return };
    assert!(world.connect("192.0.2.10:7").is_err());
    let failed = world.wait_for_event(|event| event.event == Happened::Error);
    assert!(failed.detail.unwrap().contains("192.0.2.21"));
    let Some(world) = proxied("http://nowhere.example:1") else { return };
    assert!(world.connect("192.0.2.10:7").is_err());
    let failed = world.wait_for_event(|event| event.event == Happened::Error);
    assert!(failed.detail.unwrap().contains("nowhere.example"));
}

/// Hands connections to the test.
struct Hands(Mutex<Sender<Taken>>);

type Taken = (Connection, UnixStream, TcpStream);

impl Intercept for Hands {
    fn take(&self, connection: Connection, guest: UnixStream, upstream: OwnedFd) {
        let upstream = TcpStream::from(upstream);
        guest.set_nonblocking(false).unwrap();
        upstream.set_nonblocking(false).unwrap();
        guest.set_read_timeout(Some(DEADLINE)).unwrap();
        upstream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.0.lock().unwrap().send((connection, guest, upstream)).unwrap();
    }
}

/// A world that looks into connections to `www.example`, and who gets them.
fn looked_into() -> Option<(World, Receiver<Taken>)> {
    let (sender, receiver) = channel();
    let world = World::with(strict(&["www.example"], &[]), |options, _| {
        options.intercept = Some(Arc::new(Hands(Mutex::new(sender))));
    })?;
    assert_eq!(world.look_up("www.example").len(), 1);
    Some((world, receiver))
}

fn take(taken: &Receiver<Taken>) -> Taken {
    taken.recv_timeout(DEADLINE).unwrap()
}

#[test]
fn who_looks_into_a_connection_gets_both_ends_from_the_first_byte_on() {
    let Some((world, taken)) = looked_into() else { return };
    let hello = Hello::to("WWW.example").bytes();
    for (port, said, tls) in
        [(443, hello.as_slice(), true), (80, b"GET / HTTP/1.1\r\nHost: www.example:80\r\n\r\n", false)]
    {
        let mut stream = world.connect(&format!("192.0.2.14:{port}")).unwrap();
        stream.write_all(said).unwrap();
        let (connection, mut guest, upstream) = take(&taken);
        let address = SocketAddr::new("192.0.2.14".parse().unwrap(), port);
        assert_eq!(connection, Connection { name: "www.example".into(), address, tls });
        assert_eq!(upstream.peer_addr().unwrap(), address);
        let mut heard = vec![0; said.len()];
        guest.read_exact(&mut heard).unwrap();
        assert_eq!(heard, said);
        guest.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        let allowed = world.wait_for_event(|event| event.event == Happened::Allow && event.port == Some(port));
        assert_eq!((allowed.intercepted, allowed.host.as_deref()), (Some(true), Some("www.example")));
    }
}

#[test]
fn a_connection_that_is_looked_into_ends_as_any_other() {
    let Some((world, taken)) = looked_into() else { return };
    let open = || {
        let mut stream = world.connect("192.0.2.14:80").unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n").unwrap();
        let (_, mut guest, _) = take(&taken);
        guest.read_exact(&mut [0; 37]).unwrap();
        (stream, guest)
    };
    // The guest's end, and what comes after it.
    let (mut stream, mut guest) = open();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.read(&mut [0; 1]).unwrap(), 0);
    guest.write_all(b"late").unwrap();
    drop(guest);
    let mut late = Vec::new();
    stream.read_to_end(&mut late).unwrap();
    assert_eq!(late, b"late");
    // The interceptor's.
    let (mut stream, mut guest) = open();
    guest.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    stream.write_all(b"late").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    late.clear();
    guest.read_to_end(&mut late).unwrap();
    assert_eq!(late, b"late");
    // Broken off, with something unread.
    let (mut stream, guest) = open();
    stream.write_all(&pattern(1000)).unwrap();
    let mut first = guest;
    first.read_exact(&mut [0; 1]).unwrap();
    drop(first);
    assert!(stream.read(&mut [0; 1]).is_err());
}

#[test]
fn many_bytes_through_an_interceptor_wait_for_each_other() {
    let Some((world, taken)) = looked_into() else { return };
    let mut stream = world.connect("192.0.2.14:80").unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: www.example\r\n\r\n";
    let count = 16 << 20;
    let mut sending = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        sending.write_all(head).unwrap();
        sending.write_all(&pattern(count)).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let (_, mut guest, _upstream) = take(&taken);
    let echo = thread::spawn(move || {
        let mut from = guest.try_clone().unwrap();
        std::io::copy(&mut from, &mut guest).unwrap()
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == [head.as_slice(), &pattern(count)].concat());
    sender.join().unwrap();
    assert_eq!(echo.join().unwrap(), (head.len() + count) as u64);
}

#[test]
fn the_server_is_the_one_that_was_decided_on_whatever_names_say_later() {
    let Some((world, taken)) = looked_into() else { return };
    let answer = microagent_testing::Answer::addresses(&["192.0.2.13"]);
    world.internet().set_name("www.example", &answer);
    let mut stream = world.connect("192.0.2.14:443").unwrap();
    stream.write_all(&Hello::to("www.example").bytes()).unwrap();
    let (_, _, upstream) = take(&taken);
    assert_eq!(upstream.peer_addr().unwrap().to_string(), "192.0.2.14:443");
    world.assert_untouched("192.0.2.13");
}

#[test]
fn a_guest_that_takes_its_time_is_waited_for() {
    let Some((world, taken)) = looked_into() else { return };
    let mut stream = world.connect("192.0.2.14:443").unwrap();
    let (first, second) = (Hello::to("www.example").bytes(), 20);
    thread::sleep(std::time::Duration::from_secs(2));
    stream.write_all(&first[..second]).unwrap();
    thread::sleep(std::time::Duration::from_secs(2));
    stream.write_all(&first[second..]).unwrap();
    assert_eq!(take(&taken).0.name, "www.example");
    assert!(world.events().iter().all(|event| event.reason != Some(Reason::NotInspectable)));
}

#[test]
fn dropping_the_gateway_ends_everything() {
    let Some(mut world) = World::new(guarded(&[])) else { return };
    let listener = world.internet().net().enter(|| TcpListener::bind("192.0.2.30:5000").unwrap());
    let stream = world.connect("192.0.2.30:5000").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    world.stop_gateway();
    assert!(matches!(server.read(&mut [0; 1]), Ok(0) | Err(_)));
    // The thread is gone, so all that it had to say is there.
    let closed = world.events().into_iter().filter(|event| event.event == Happened::Close).count();
    assert_eq!(closed, 1, "{}", text(&std::fs::read(world.log()).unwrap()));
    drop(stream);
}
