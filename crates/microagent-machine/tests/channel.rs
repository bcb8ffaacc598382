//! The channel against guests that behave, guests that vanish and guests that lie.

use microagent_machine::channel::Held;
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

impl Guest {
    /// Answers the next request, and returns it.
    fn answer(&mut self, reply: &Reply) -> Request {
        let frame = self.receive();
        assert_eq!(frame.kind, Kind::Call);
        self.reply(frame.id, reply);
        serde_json::from_slice(&frame.payload).unwrap()
    }

    /// Stands still when it is asked to.
    fn stand_still(&mut self) {
        assert_eq!(self.answer(&Reply::Time { monotonic_ns: 5 }), Request::Time);
        assert_eq!(self.answer(&Reply::Quiet { monotonic_ns: 6 }), Request::Quiesce { purge: true });
    }

    /// Checks that the host has sent nothing that was not received.
    fn hears_nothing(&mut self) {
        assert_eq!(self.decoder.next_frame().unwrap(), None);
        self.stream.set_nonblocking(true).unwrap();
        assert_eq!(self.stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
    }
}

/// A guest that stands still.
fn held() -> (Channel, Guest, Held) {
    let (channel, mut guest) = Guest::pair();
    let holder = channel.clone();
    let holding = thread::spawn(move || holder.hold(true, soon()).unwrap());
    guest.stand_still();
    (channel, guest, holding.join().unwrap())
}

#[test]
fn nothing_is_sent_to_a_guest_that_stands_still_and_all_of_it_afterwards() {
    let (channel, mut guest) = Guest::pair();
    let (mut reading, dropped) = (channel.output(), channel.output());
    let (mut writing, ended) = (channel.input(), channel.input());
    let mut expected = vec![
        (Kind::Data, writing.id()),
        (Kind::End, writing.id()),
        (Kind::Credit, reading.id()),
        (Kind::Reset, dropped.id()),
        (Kind::End, ended.id()),
    ];
    let holder = channel.clone();
    let holding = thread::spawn(move || holder.hold(true, soon()).unwrap());
    guest.stand_still();
    let held = holding.join().unwrap();
    assert_eq!(held.monotonic_ns(), 6);
    let half = INITIAL_CREDIT as usize / 2;
    for _ in 0..half / MAX_DATA {
        guest.send(Kind::Data, reading.id(), &vec![0; MAX_DATA]);
    }
    let (started, arrived) = std::sync::mpsc::channel();
    let mut all = Vec::new();
    let mut start = |act: Box<dyn FnOnce() + Send>| {
        let started = started.clone();
        all.push(thread::spawn(move || {
            started.send(()).unwrap();
            act();
        }));
    };
    start(Box::new(move || writing.write_all(b"typed").unwrap()));
    start(Box::new(move || {
        let mut taken = vec![0; half];
        reading.read_exact(&mut taken).unwrap();
        std::mem::forget(reading);
    }));
    start(Box::new(move || drop(dropped)));
    start(Box::new(move || ended.finish()));
    let caller = channel.clone();
    start(Box::new(move || assert_eq!(caller.call(&Request::Sync).unwrap().wait(Some(soon())).unwrap(), Reply::Done)));
    (0..5).for_each(|_| arrived.recv().unwrap());
    // A guest takes in what it is sent at once; each of them would have got there long ago.
    thread::sleep(Duration::from_millis(100));
    guest.hears_nothing();

    let going = thread::spawn(move || {
        let epoch_ns = held.epoch_ns(soon()).unwrap();
        held.proceed(epoch_ns, soon()).unwrap();
    });
    for _ in 0..3 {
        assert_eq!(guest.answer(&Reply::Time { monotonic_ns: 7 }), Request::Time);
    }
    assert!(matches!(guest.answer(&Reply::Done), Request::Proceed { .. }), "before everybody else");
    going.join().unwrap();
    let mut answered = false;
    while !(expected.is_empty() && answered) {
        let frame = guest.receive();
        if frame.kind == Kind::Call {
            assert_eq!(serde_json::from_slice::<Request>(&frame.payload).unwrap(), Request::Sync);
            guest.reply(frame.id, &Reply::Done);
            answered = true;
        } else {
            let at = expected.iter().position(|what| *what == (frame.kind, frame.id)).unwrap();
            expected.remove(at);
        }
    }
    for thread in all {
        thread.join().unwrap();
    }
}

#[test]
fn a_guest_that_refuses_to_stand_still_is_talked_to_as_before() {
    let (channel, mut guest) = Guest::pair();
    let holder = channel.clone();
    let holding = thread::spawn(move || holder.hold(false, soon()).err());
    guest.answer(&Reply::Time { monotonic_ns: 5 });
    let refusal = Refusal { code: RefusalCode::System, message: "not now".into() };
    guest.answer(&Reply::Refused(refusal.clone()));
    assert!(matches!(holding.join().unwrap(), Some(Error::Refused(found)) if found == refusal));
    let call = channel.call(&Request::Sync).unwrap();
    assert_eq!(guest.answer(&Reply::Done), Request::Sync, "and it is not told to go on");
    assert_eq!(call.wait(Some(soon())).unwrap(), Reply::Done);
}

#[test]
fn a_guest_that_stands_still_too_late_is_told_to_go_on() {
    let (channel, mut guest) = Guest::pair();
    let holder = channel.clone();
    let holding = thread::spawn(move || holder.hold(false, Instant::now() + Duration::from_secs(5)).err());
    guest.answer(&Reply::Time { monotonic_ns: 5 });
    let late = guest.receive();
    assert!(matches!(holding.join().unwrap(), Some(Error::DeadlinePassed)));
    guest.reply(late.id, &Reply::Quiet { monotonic_ns: 6 });
    assert!(matches!(guest.answer(&Reply::Done), Request::Proceed { epoch_ns } if epoch_ns > 0));
    let call = channel.call(&Request::Sync).unwrap();
    assert_eq!(guest.answer(&Reply::Done), Request::Sync);
    assert_eq!(call.wait(Some(soon())).unwrap(), Reply::Done);
}

#[test]
fn a_guest_that_does_not_say_the_time_is_not_asked_to_stand_still() {
    let (channel, mut guest) = Guest::pair();
    assert!(matches!(channel.hold(false, Instant::now()), Err(Error::DeadlinePassed)));
    let call = channel.call(&Request::Sync).unwrap();
    let asked = guest.receive();
    if serde_json::from_slice::<Request>(&asked.payload).unwrap() == Request::Time {
        assert_eq!(guest.answer(&Reply::Done), Request::Sync);
    } else {
        guest.reply(asked.id, &Reply::Done);
    }
    assert_eq!(call.wait(Some(soon())).unwrap(), Reply::Done);
}

#[test]
fn letting_go_has_the_guest_go_on() {
    let (channel, mut guest, held) = held();
    drop(held);
    assert!(matches!(guest.answer(&Reply::Done), Request::Proceed { epoch_ns } if epoch_ns > 0));
    let call = channel.call(&Request::Sync).unwrap();
    assert_eq!(guest.answer(&Reply::Done), Request::Sync);
    assert_eq!(call.wait(Some(soon())).unwrap(), Reply::Done);
}

#[test]
fn who_waits_to_send_to_a_guest_that_dies_learns_of_it() {
    let (channel, guest, held) = held();
    let (mut input, caller, other) = (channel.input(), channel.clone(), channel.clone());
    let calling = thread::spawn(move || caller.call(&Request::Sync).err());
    let writing = thread::spawn(move || input.write_all(b"unheard").unwrap_err().kind());
    let holding = thread::spawn(move || other.hold(false, soon()).err());
    held.let_die();
    drop(guest);
    assert!(matches!(calling.join().unwrap(), Some(Error::GuestLost)));
    assert_eq!(writing.join().unwrap(), std::io::ErrorKind::BrokenPipe);
    assert!(matches!(holding.join().unwrap(), Some(Error::GuestLost)));
}

#[test]
fn one_at_a_time_holds_a_guest() {
    let (channel, mut guest, held) = held();
    assert!(matches!(channel.hold(false, Instant::now()), Err(Error::DeadlinePassed)));
    guest.hears_nothing();
    drop(held);
    guest.answer(&Reply::Done);
}

#[test]
fn a_guest_that_answers_something_else_is_cut_off() {
    let (channel, mut guest) = Guest::pair();
    let holder = channel.clone();
    let holding = thread::spawn(move || holder.hold(false, soon()).err());
    guest.answer(&Reply::Time { monotonic_ns: 5 });
    guest.answer(&Reply::Done);
    assert!(matches!(holding.join().unwrap(), Some(Error::ProtocolViolation { .. })));
    assert!(matches!(channel.call(&Request::Sync), Err(Error::ProtocolViolation { .. })));
}

#[test]
fn a_call_that_was_reserved_is_answered_without_a_request() {
    let (channel, mut guest) = Guest::pair();
    let reserved = channel.reserve_call();
    guest.hears_nothing();
    guest.reply(reserved.id(), &Reply::Done);
    assert_eq!(reserved.wait(Some(soon())).unwrap(), Reply::Done);
    assert_ne!(channel.reserve_call().id(), channel.reserve_call().id());
}
