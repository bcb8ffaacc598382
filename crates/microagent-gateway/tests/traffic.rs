//! Connections that are allowed get through, and behave as they would without a gateway.

mod world;

use microagent_egress::{Happened, Mode, Protocol, Rules};
use microagent_testing::{Internet, Kind, pattern};
use rustix::net::sockopt::set_socket_linger;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use world::{DEADLINE, World};

/// Enough for every buffer on the way to be filled many times.
const MANY: usize = 32 << 20;
/// What a connection holds on its way at the most, with the buffers of both kernels: what is beyond that has to wait.
const MOST_ON_THE_WAY: usize = 48 << 20;

fn guarded() -> Rules {
    Rules { mode: Mode::Guarded, ..Rules::default() }
}

/// Sends `bytes` on a thread of its own.
fn send(stream: &TcpStream, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || stream.write_all(&bytes).unwrap())
}

fn read(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A server of the test's own out there, for one connection.
fn serve<T: Send>(
    world: &World,
    address: &str,
    serve: impl FnOnce(TcpStream) -> T + Send,
    guest: impl FnOnce(TcpStream) + Send,
) -> T {
    let listener = world.internet().net().enter(|| TcpListener::bind(address).unwrap());
    thread::scope(|scope| {
        let served = scope.spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            serve(stream)
        });
        guest(world.connect(address).unwrap());
        served.join().unwrap()
    })
}

#[test]
fn a_page_is_had_by_its_name_and_the_record_tells() {
    let Some(world) = World::new(guarded()) else { return };
    let got = world.curl(&["http://www.example/bytes/1000", "https://www.example/bytes/1000"]);
    assert!(got.status.success() && got.stdout == [pattern(1000), pattern(1000)].concat());
    let allowed = world.wait_for_event(|event| event.event == Happened::Allow && event.port == Some(80));
    assert_eq!((allowed.protocol, allowed.peer().as_str()), (Protocol::Tcp, "www.example:80"));
    let closed = world.wait_for_event(|event| event.event == Happened::Close && event.port == Some(80));
    assert!(closed.bytes_received.unwrap() > 1000 && closed.bytes_sent.unwrap() > 10);
}

#[test]
fn many_bytes_go_both_ways_at_once_and_none_is_lost_or_changed() {
    let Some(world) = World::new(guarded()) else { return };
    let stream = world.connect("192.0.2.10:7").unwrap();
    let sending = send(&stream, pattern(MANY));
    assert!(read(&stream, MANY) == pattern(MANY));
    sending.join().unwrap();
    drop(stream);
    let closed = world.wait_for_event(|event| event.event == Happened::Close);
    assert_eq!((closed.bytes_sent, closed.bytes_received), (Some(MANY as u64), Some(MANY as u64)));
}

#[test]
fn a_guest_that_has_said_everything_still_gets_its_answer() {
    let Some(world) = World::new(guarded()) else { return };
    let mut stream = world.connect("192.0.2.10:6667").unwrap();
    stream.write_all(&pattern(1 << 20)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&stream), b"1048576\n");
}

#[test]
fn a_guest_that_is_gone_is_told_from_one_that_waits_for_an_answer() {
    let Some(world) = World::new(guarded()) else { return };
    // How long its kernel remembers a connection that nobody has open any more.
    world.guest().set("ipv4/tcp_fin_timeout", "1");
    // A server that answers nobody.
    let server = world.internet().net().enter(|| TcpListener::bind("192.0.2.20:7000").unwrap());
    let waits = world.connect("192.0.2.20:7000").unwrap();
    waits.shutdown(Shutdown::Write).unwrap();
    drop(world.connect("192.0.2.20:7000").unwrap());
    let is_closed = |event: &microagent_egress::Event| event.event == Happened::Close;
    world.wait_for_event(is_closed);
    // It was asked before the other one was.
    assert_eq!(world.events().iter().filter(|event| is_closed(event)).count(), 1, "the other one still waits");
    drop(server);
    drop(waits);
}

#[test]
fn a_server_that_has_said_everything_still_hears_the_guest() {
    let Some(world) = World::new(guarded()) else { return };
    let server = |stream: TcpStream| {
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&stream)
    };
    let heard = serve(&world, "192.0.2.30:5000", server, |mut stream| {
        assert_eq!(read_to_end(&stream), b"");
        // More than there is room for on the way, so that the guest's own end comes while much of it is.
        stream.write_all(&pattern(MANY)).unwrap();
    });
    assert!(heard == pattern(MANY));
}

#[test]
fn a_reset_by_the_server_is_a_reset_for_the_guest() {
    let Some(world) = World::new(guarded()) else { return };
    // It may come so fast that the guest's program hears of it before it hears that it is connected.
    let error = world.connect("192.0.2.10:6666").and_then(|mut stream| stream.read(&mut [0; 1]));
    let error = error.expect_err("it is reset at once");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn what_a_server_said_before_a_reset_arrives() {
    let Some(world) = World::new(guarded()) else { return };
    let server = |mut stream: TcpStream| {
        stream.write_all(b"before").unwrap();
        read(&stream, 1);
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    };
    serve(&world, "192.0.2.30:5000", server, |mut stream| {
        assert_eq!(read(&stream, 6), b"before");
        stream.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_by_the_guest_is_a_reset_for_the_server() {
    let Some(world) = World::new(guarded()) else { return };
    let server = |mut stream: TcpStream| {
        stream.write_all(b"hello").unwrap();
        stream.read(&mut [0; 1]).unwrap_err().kind()
    };
    let seen = serve(&world, "192.0.2.30:5000", server, |stream| {
        assert_eq!(read(&stream, 5), b"hello");
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(seen, ErrorKind::ConnectionReset);
}

#[test]
fn a_server_that_goes_away_is_noticed_by_a_guest_that_goes_on_speaking() {
    let Some(world) = World::new(guarded()) else { return };
    serve(&world, "192.0.2.30:5000", drop, |mut stream| {
        assert_eq!(read_to_end(&stream), b"");
        // The first byte is answered by a reset, which the second one may come too early for.
        while stream.write_all(b"x").is_ok() {}
    });
}

#[test]
fn refused_is_refused_and_unreachable_is_unreachable() {
    let Some(world) = World::new(guarded()) else { return };
    let error = |to: SocketAddr| world.connect(&to.to_string()).unwrap_err().kind();
    assert_eq!(error("192.0.2.10:1".parse().unwrap()), ErrorKind::ConnectionRefused);
    assert_eq!(error((Internet::NOBODY, 80).into()), ErrorKind::HostUnreachable);
    let failed = world.wait_for_event(|event| event.event == Happened::Error && event.port == Some(1));
    assert!(failed.detail.unwrap().contains("refused"));
    // A name that the policy has no word about is not known by its port either.
    assert_eq!(world.connect("10.43.0.1:80").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn silence_is_silence() {
    let Some(world) = World::new(guarded()) else { return };
    let to = (Internet::SILENT, 80).into();
    let error = world.enter_guest(|| TcpStream::connect_timeout(&to, Duration::from_secs(3))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_server_may_speak_first() {
    let Some(world) = World::new(guarded()) else { return };
    let mut stream = world.connect("192.0.2.10:22").unwrap();
    assert_eq!(read(&stream, 14), b"SSH-2.0-test\r\n");
    stream.write_all(b"SSH-2.0-guest\r\n").unwrap();
    assert_eq!(read(&stream, 15), b"SSH-2.0-guest\r\n");
}

#[test]
fn thousands_of_short_connections_leave_nothing_behind() {
    let Some(world) = World::new(guarded()) else { return };
    world.enter_guest(|| {
        let shares = (0..4).map(|_| {
            thread::spawn(|| {
                for n in 0..500u32 {
                    let mut stream = TcpStream::connect("192.0.2.10:7").unwrap();
                    stream.set_read_timeout(Some(DEADLINE)).unwrap();
                    stream.write_all(&n.to_be_bytes()).unwrap();
                    assert_eq!(read(&stream, 4), n.to_be_bytes());
                }
            })
        });
        shares.collect::<Vec<_>>().into_iter().for_each(|share| share.join().unwrap());
    });
    let last = world.connect("192.0.2.10:6667").unwrap();
    last.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&last), b"0\n");
    world.wait_for_event(|event| event.event == Happened::Close && event.port == Some(6667));
    let count = |happened| world.events().iter().filter(|event| event.event == happened).count();
    assert_eq!((count(Happened::Allow), count(Happened::Close)), (2001, 2001));
}

#[test]
fn hundreds_of_connections_at_once_all_get_their_turn() {
    let Some(world) = World::new(guarded()) else { return };
    let streams: Vec<TcpStream> = (0..400).map(|_| world.connect("192.0.2.10:7").unwrap()).collect();
    let sending: Vec<_> = streams.iter().map(|stream| send(stream, pattern(100_000))).collect();
    for stream in &streams {
        assert!(read(stream, 100_000) == pattern(100_000));
    }
    for sending in sending {
        sending.join().unwrap();
    }
}

#[test]
fn an_idle_connection_stays() {
    let Some(world) = World::new(guarded()) else { return };
    let mut stream = world.connect("192.0.2.10:7").unwrap();
    // Longer than any patience that the gateway has with somebody who ought to say something.
    thread::sleep(Duration::from_secs(12));
    stream.write_all(b"still there").unwrap();
    assert_eq!(read(&stream, 11), b"still there");
}

#[test]
fn a_server_that_does_not_read_holds_up_its_own_guest_and_nobody_else() {
    let Some(world) = World::new(guarded()) else { return };
    let mut stuck = world.connect("192.0.2.10:6668").unwrap();
    stuck.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let (piece, mut written) = (pattern(1 << 20), 0);
    while let Ok(count) = stuck.write(&piece) {
        written += count;
        assert!(written < MOST_ON_THE_WAY, "somebody buffers without end");
    }
    let other = world.connect("192.0.2.10:7").unwrap();
    let sending = send(&other, pattern(1 << 20));
    assert!(read(&other, 1 << 20) == pattern(1 << 20));
    sending.join().unwrap();
}

#[test]
fn a_guest_that_does_not_read_holds_up_its_own_server_and_nobody_else() {
    let Some(world) = World::new(guarded()) else { return };
    let whole = 2 * MOST_ON_THE_WAY;
    let mut slow = world.connect("192.0.2.11:19").unwrap();
    slow.write_all(format!("{whole}\n").as_bytes()).unwrap();
    let other = world.connect("192.0.2.10:7").unwrap();
    let sending = send(&other, pattern(MANY));
    assert!(read(&other, MANY) == pattern(MANY));
    sending.join().unwrap();
    // By now all buffers are full, and the server waits.
    let is_done = |seen: &microagent_testing::Seen| seen.kind == Kind::Close && seen.is_at("192.0.2.11:19");
    assert!(!world.internet().journal().iter().any(is_done), "somebody buffers without end");
    assert!(read_to_end(&slow) == pattern(whole));
    world.internet().wait_for(|seen| is_done(seen) && seen.number("sent") == whole as u64, DEADLINE);
}
