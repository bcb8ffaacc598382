//! Hosts that leave, lie or do not listen. Each test has a machine of its own and speaks frames by hand.

mod common;

use common::{Engine, boot_request, shell, workspace_disk};
use microagent_protocol::flow::INITIAL_CREDIT;
use microagent_protocol::frame::{MAX_DATA, header};
use microagent_protocol::{Decoder, Exec, Frame, Hello, Kind, Recipients, RefusalCode, Reply, Request};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use tempfile::TempDir;

struct Machine {
    engine: Engine,
    stream: UnixStream,
    decoder: Decoder,
    _directory: TempDir,
}

impl Machine {
    /// A machine that has said hello.
    fn greet() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let (engine, stream) = Engine::start(&workspace_disk(directory.path()));
        stream.set_read_timeout(Some(common::SOON)).unwrap();
        let mut machine = Machine { engine, stream, decoder: Decoder::default(), _directory: directory };
        let hello = machine.receive();
        assert_eq!((hello.kind, hello.id), (Kind::Hello, 0));
        serde_json::from_slice::<Hello>(&hello.payload).unwrap();
        machine
    }

    /// A machine with a workspace.
    fn boot() -> Machine {
        let mut machine = Machine::greet();
        machine.call(1, &Request::Boot(boot_request()));
        assert!(matches!(machine.reply(1), Reply::Booted { .. }));
        machine
    }

    fn send(&mut self, kind: Kind, id: u32, payload: &[u8]) {
        let mut wire = header(kind, id, payload.len()).to_vec();
        wire.extend_from_slice(payload);
        self.stream.write_all(&wire).unwrap();
    }

    fn call(&mut self, id: u32, request: &Request) {
        self.send(Kind::Call, id, &serde_json::to_vec(request).unwrap());
    }

    fn receive(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let mut buffer = vec![0; 1 << 16];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the machine is gone; its console: {}", self.engine.console());
            self.decoder.extend(&buffer[..count]);
        }
    }

    /// The reply to call `id`; other frames before it are dropped.
    fn reply(&mut self, id: u32) -> Reply {
        loop {
            let frame = self.receive();
            if (frame.kind, frame.id) == (Kind::Reply, id) {
                return serde_json::from_slice(&frame.payload).unwrap();
            }
        }
    }

    fn refusal(&mut self, id: u32) -> RefusalCode {
        match self.reply(id) {
            Reply::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the machine has ended itself and checks that it said why.
    fn ends_saying(mut self, why: &str) {
        self.engine.ended();
        let console = self.engine.console();
        let said = console.lines().any(|line| line.contains("microagent-guest: ") && line.contains(why));
        assert!(said, "{why:?} is not on the console: {console}");
    }
}

fn exec(script: &str, streams: [u32; 3]) -> Request {
    let [stdin, stdout, stderr] = streams;
    Request::Exec(Exec { stdin: Some(stdin), stdout, stderr, ..shell(script) })
}

#[test]
fn a_machine_whose_host_leaves_ends_itself() {
    let mut machine = Machine::greet();
    drop(std::mem::replace(&mut machine.stream, UnixStream::pair().unwrap().0));
    machine.ends_saying("the host has left");
}

#[test]
fn a_machine_in_full_swing_whose_host_leaves_ends_itself() {
    let mut machine = Machine::boot();
    machine.call(2, &exec("yes", [10, 11, 12]));
    assert_eq!(machine.receive().kind, Kind::Data);
    drop(std::mem::replace(&mut machine.stream, UnixStream::pair().unwrap().0));
    machine.ends_saying("the host has left");
}

#[test]
fn bytes_that_are_no_frame_end_the_machine() {
    let mut machine = Machine::greet();
    machine.stream.write_all(&[0xff; 64]).unwrap();
    machine.ends_saying("the host broke the protocol");
}

#[test]
fn more_input_than_its_credit_ends_the_machine() {
    let mut machine = Machine::boot();
    machine.call(2, &exec("exec sleep 1000", [10, 11, 12]));
    // The pipe takes some of it; one window more than that is beyond any credit.
    let chunk = vec![0; MAX_DATA];
    for _ in 0..=2 * INITIAL_CREDIT as usize / MAX_DATA {
        machine.send(Kind::Data, 10, &chunk);
    }
    machine.ends_saying("the host broke the protocol");
}

#[test]
fn a_request_that_cannot_be_read_is_refused_and_the_next_one_served() {
    let mut machine = Machine::boot();
    for (payload, code) in [
        (&b"{"[..], RefusalCode::BadRequest),
        (br#"{"verb":"exec"}"#, RefusalCode::BadRequest),
        (br#"{"verb":"dance"}"#, RefusalCode::UnknownVerb),
        (&[0xff, 0xfe], RefusalCode::BadRequest),
        (b"", RefusalCode::BadRequest),
    ] {
        machine.send(Kind::Call, 2, payload);
        assert_eq!(machine.refusal(2), code, "{payload:?}");
    }
    machine.call(3, &Request::Sync);
    assert_eq!(machine.reply(3), Reply::Done);
}

#[test]
fn ids_that_are_in_use_are_refused() {
    let mut machine = Machine::boot();
    machine.call(2, &exec("exec sleep 1000", [10, 11, 12]));
    machine.call(2, &exec("true", [20, 21, 22]));
    assert_eq!(machine.refusal(2), RefusalCode::BadRequest);
    machine.call(3, &exec("true", [20, 11, 22]));
    assert_eq!(machine.refusal(3), RefusalCode::BadRequest);
    machine.call(4, &exec("true", [20, 20, 22]));
    assert_eq!(machine.refusal(4), RefusalCode::BadRequest);
}

#[test]
fn frames_for_streams_nobody_knows_are_passed_over() {
    let mut machine = Machine::boot();
    machine.send(Kind::Data, 77, b"late");
    machine.send(Kind::End, 77, &[]);
    machine.send(Kind::Reset, 78, &[]);
    machine.send(Kind::Credit, 79, &u32::MAX.to_le_bytes());
    machine.call(2, &exec("cat", [10, 11, 12]));
    // Input is not what the host may grant, nor output what it may send.
    machine.send(Kind::Credit, 10, &1u32.to_le_bytes());
    machine.send(Kind::Data, 11, b"not for you");
    machine.send(Kind::End, 10, &[]);
    assert!(matches!(machine.reply(2), Reply::Exited(exit) if exit.code == Some(0)));
}

#[test]
fn a_host_that_asks_and_does_not_listen_costs_no_memory_and_loses_no_answer() {
    const CALLS: u32 = 100_000;
    let mut machine = Machine::boot();
    let mut asking = machine.stream.try_clone().unwrap();
    let asker = thread::spawn(move || {
        let payload = serde_json::to_vec(&Request::Signal { process: 1, signal: 1, to: Recipients::Group }).unwrap();
        for id in 0..CALLS {
            let mut wire = header(Kind::Call, id, payload.len()).to_vec();
            wire.extend_from_slice(&payload);
            asking.write_all(&wire).unwrap();
        }
    });
    for id in 0..CALLS {
        let frame = machine.receive();
        assert_eq!((frame.kind, frame.id), (Kind::Reply, id));
    }
    asker.join().unwrap();
}

#[test]
fn more_commands_than_the_limit_are_refused() {
    let mut machine = Machine::boot();
    let limit = 1024;
    for n in 0..=limit {
        let first = 10_000 + n * 3;
        machine.call(100 + n, &exec("exec sleep 1000", [first, first + 1, first + 2]));
    }
    assert_eq!(machine.refusal(100 + limit), RefusalCode::System);
    machine.call(2, &Request::Shutdown);
    assert_eq!(machine.reply(2), Reply::Done);
}

#[test]
fn a_machine_without_the_port_says_so_and_ends_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, stream) = Engine::start_with_port(&workspace_disk(directory.path()), "another");
    Machine { engine, stream, decoder: Decoder::default(), _directory: directory }
        .ends_saying("no virtio-serial port named `microagent`");
}
