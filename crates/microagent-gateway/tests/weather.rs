//! A line that loses packets and takes its time holds things up, and breaks nothing.

mod world;

use microagent_egress::{Mode, Rules};
use microagent_testing::{Answer, pattern};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use world::{DEADLINE, Line, Weather, World};

/// A round trip takes 50 ms, and one packet of fifty is lost on each way.
const BAD: Weather = Weather { loss: 20, delay: Duration::from_millis(25) };

fn world() -> Option<World> {
    World::new(Rules { mode: Mode::Guarded, ..Rules::default() })
}

#[test]
fn streams_arrive_whole_over_a_bad_line() {
    let Some(world) = world() else { return };
    let line = Line::lay(world.internet(), BAD);
    let bytes = pattern(300_000);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut stream = world.connect("192.0.2.10:7").unwrap();
                let (mut sending, bytes) = (stream.try_clone().unwrap(), &bytes);
                scope.spawn(move || sending.write_all(bytes).unwrap());
                let mut got = vec![0; bytes.len()];
                stream.read_exact(&mut got).unwrap();
                assert!(got == *bytes);
            });
        }
    });
    let got = world.curl(&["https://www.example/bytes/100000"]);
    assert!(got.status.success() && got.stdout == pattern(100_000), "{got:?}");
    // Some 1,300 packets of a full size went each way, and most of their acknowledgements.
    assert!(line.lost() >= 20, "the line lost {} packets", line.lost());
}

#[test]
fn either_end_may_have_said_everything_over_a_bad_line() {
    let Some(world) = world() else { return };
    let line = Line::lay(world.internet(), Weather { loss: 50, ..BAD });
    for _ in 0..10 {
        let mut stream = world.connect("192.0.2.10:6667").unwrap();
        stream.write_all(&pattern(30_000)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "30000\n");
    }
    let listener = world.internet().net().enter(|| TcpListener::bind("192.0.2.30:5000").unwrap());
    for _ in 0..10 {
        let heard = thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                read_to_end(&mut stream)
            });
            let mut stream = world.connect("192.0.2.30:5000").unwrap();
            assert_eq!(read_to_end(&mut stream), b"");
            stream.write_all(&pattern(30_000)).unwrap();
            drop(stream);
            server.join().unwrap()
        });
        assert!(heard == pattern(30_000));
    }
    assert!(line.lost() > 0);
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn names_are_found_over_a_bad_line() {
    let Some(world) = world() else { return };
    let names: Vec<String> = (0..60).map(|n| format!("n{n}.example")).collect();
    for name in &names {
        world.internet().set_name(name, &Answer::addresses(&["192.0.2.15"]));
    }
    let line = Line::lay(world.internet(), Weather { loss: 50, ..BAD });
    // The gateway asks twice; what the guest has in the place of `dig` would ask it twice, too (resolv.conf(5)).
    let found = |name: &str| (0..3).any(|_| world.look_up(name) == ["192.0.2.15".parse::<Ipv4Addr>().unwrap()]);
    for names in names.chunks(12) {
        thread::scope(|scope| {
            let found = &found;
            let asked: Vec<_> = names.iter().map(|name| scope.spawn(move || assert!(found(name), "{name}"))).collect();
            asked.into_iter().for_each(|asked| asked.join().unwrap());
        });
    }
    assert!(line.lost() > 0);
}

#[test]
fn an_answer_takes_as_long_as_the_line_does() {
    let Some(world) = world() else { return };
    let _line = Line::lay(world.internet(), Weather { loss: 0, delay: Duration::from_millis(200) });
    let begun = Instant::now();
    let mut stream = world.connect("192.0.2.10:7").unwrap();
    // The server's acceptance is the guest's: it is not told before that there is a connection.
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(800), "{:?}", begun.elapsed());
}
