//! The channel against guests that behave, guests that vanish and guests that lie.

use microagent_machine::{Channel, Error};
use microagent_protocol::flow::INITIAL_CREDIT;
use microagent_protocol::frame::MAX_DATA;
use microagent_protocol::{Decoder, Frame, Hello, Kind, PROTOCOL_VERSION, Refusal, RefusalCode, Reply, Request};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for any busy host; a test that reaches it has failed.
const SOON: Duration = Duration::from_mins(1);

/// The other end of a channel, speaking frames by hand.
struct Guest {
    stream: UnixStream,
    decoder: Decoder,
}

impl Guest {
    fn pair() -> (Channel, Guest) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::open(ours).unwrap(), Guest { stream: theirs, decoder: Decoder::default() })
    }

    fn send(&mut self, kind: Kind, id: u32, payload: &[u8]) {
        let mut wire = Vec::new();
        Frame::new(kind, id, payload.to_vec()).encode(&mut wire);
        self.stream.write_all(&wire).unwrap();
    }

    fn reply(&mut self, id: u32, reply: &Reply) {
        self.send(Kind::Reply, id, &serde_json::to_vec(reply).unwrap());
    }

    fn receive(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the host hung up");
            self.decoder.extend(&buffer[..count]);
        }
    }

    fn hello(&mut self, protocol: u32) {
        let hello = Hello { protocol, agent: "test".into(), kernel: "6.1".into(), uptime_ms: 1 };
        self.send(Kind::Hello, 0, &serde_json::to_vec(&hello).unwrap());
    }
}

fn soon() -> Instant {
    Instant::now() + SOON
}

#[test]
fn a_guest_of_another_version_is_refused() {
    let (channel, mut guest) = Guest::pair();
    guest.hello(PROTOCOL_VERSION + 1);
    assert!(matches!(channel.hello(soon()), Err(Error::ProtocolVersion { .. })));
}

#[test]
fn a_silent_guest_costs_no_more_than_the_deadline() {
    let (channel, _guest) = Guest::pair();
    assert!(matches!(channel.hello(Instant::now()), Err(Error::DeadlinePassed)));
}

#[test]
fn answers_find_their_calls_in_any_order() {
    let (channel, mut guest) = Guest::pair();
    let (first, second) = (channel.call(&Request::Sync).unwrap(), channel.call(&Request::Shutdown).unwrap());
    let (a, b) = (guest.receive(), guest.receive());
    assert_eq!((a.id, b.id), (first.id(), second.id()));
    guest.reply(b.id, &Reply::Done);
    let refusal = Refusal { code: RefusalCode::WrongState, message: "not yet".into() };
    guest.reply(a.id, &Reply::Refused(refusal.clone()));
    assert_eq!(second.wait(Some(soon())).unwrap(), Reply::Done);
    assert!(matches!(first.wait(Some(soon())), Err(Error::Refused(found)) if found == refusal));
}

#[test]
fn everyone_who_waits_learns_that_the_guest_is_gone() {
    let (channel, guest) = Guest::pair();
    let call = channel.call(&Request::Sync).unwrap();
    let mut output = channel.output();
    let mut input = channel.input();
    let reading = thread::spawn(move || output.read(&mut [0; 16]).unwrap_err().kind());
    let writing = thread::spawn(move || input.write_all(&vec![0; 2 * INITIAL_CREDIT as usize]).unwrap_err().kind());
    drop(guest);
    assert!(matches!(call.wait(Some(soon())), Err(Error::GuestLost)));
    assert_eq!(reading.join().unwrap(), std::io::ErrorKind::ConnectionAborted);
    assert_eq!(writing.join().unwrap(), std::io::ErrorKind::BrokenPipe);
    assert!(matches!(channel.call(&Request::Sync), Err(Error::GuestLost)));
}

#[test]
fn output_arrives_whole_and_in_order_under_credit() {
    let (channel, mut guest) = Guest::pair();
    let mut output = channel.output();
    let id = output.id();
    let sent: Vec<u8> = (0..4 * INITIAL_CREDIT).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let sender = thread::spawn(move || {
        let mut credit = INITIAL_CREDIT as usize;
        for chunk in sent.chunks(MAX_DATA) {
            while credit < chunk.len() {
                credit += guest.receive().credit_granted().unwrap() as usize;
            }
            credit -= chunk.len();
            guest.send(Kind::Data, id, chunk);
        }
        guest.send(Kind::End, id, &[]);
        guest
    });
    let mut got = Vec::new();
    output.read_to_end(&mut got).unwrap();
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
    sender.join().unwrap();
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody_else() {
    let (channel, mut guest) = Guest::pair();
    let (idle, mut busy) = (channel.output(), channel.output());
    for _ in 0..INITIAL_CREDIT as usize / MAX_DATA {
        guest.send(Kind::Data, idle.id(), &vec![7; MAX_DATA]);
    }
    guest.send(Kind::Data, busy.id(), b"through");
    guest.send(Kind::End, busy.id(), &[]);
    let mut text = String::new();
    busy.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn a_guest_that_breaks_the_protocol_is_cut_off() {
    type Attack = fn(&mut Guest, u32);
    let attacks: [(&str, Attack); 8] = [
        ("more than its credit", |guest, id| {
            for _ in 0..=INITIAL_CREDIT as usize / MAX_DATA {
                guest.send(Kind::Data, id, &vec![0; MAX_DATA]);
            }
        }),
        ("data after the end", |guest, id| {
            guest.send(Kind::End, id, &[]);
            guest.send(Kind::Data, id, b"x");
        }),
        ("a second hello", |guest, _| {
            guest.hello(PROTOCOL_VERSION);
            guest.hello(PROTOCOL_VERSION);
        }),
        ("a call of its own", |guest, _| guest.send(Kind::Call, 1, b"{}")),
        ("a hello that is no JSON", |guest, _| guest.send(Kind::Hello, 0, b"hello")),
        ("deeply nested JSON", |guest, _| guest.send(Kind::Hello, 0, &vec![b'['; 1 << 20])),
        ("a length beyond any frame", |guest, _| guest.stream.write_all(&[0xff; 12]).unwrap()),
        ("a credit of no size", |guest, id| guest.send(Kind::Credit, id, &[1])),
    ];
    for (what, attack) in attacks {
        let (channel, mut guest) = Guest::pair();
        let output = channel.output();
        let call = channel.call(&Request::Sync).unwrap();
        attack(&mut guest, output.id());
        match call.wait(Some(soon())) {
            Err(Error::ProtocolViolation { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_flood_of_frames_for_nobody_is_dropped() {
    let (channel, mut guest) = Guest::pair();
    for id in 1000..3000 {
        guest.send(Kind::Data, id, &[0; 1024]);
        guest.send(Kind::Credit, id, &u32::MAX.to_le_bytes());
        guest.reply(id, &Reply::Done);
    }
    guest.hello(PROTOCOL_VERSION);
    assert_eq!(channel.hello(soon()).unwrap().agent, "test");
}

#[test]
fn dropping_an_output_tells_the_guest_and_finishing_an_input_ends_it() {
    let (channel, mut guest) = Guest::pair();
    let (output, input) = (channel.output(), channel.input());
    let (output_id, input_id) = (output.id(), input.id());
    drop(output);
    input.finish();
    let (reset, end) = (guest.receive(), guest.receive());
    assert_eq!((reset.kind, reset.id), (Kind::Reset, output_id));
    assert_eq!((end.kind, end.id), (Kind::End, input_id));
}
