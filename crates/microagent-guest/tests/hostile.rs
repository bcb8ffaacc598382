//! Hosts that leave, lie or do not listen. Each test has a machine of its own and speaks frames by hand.

mod common;

use common::machine::{Machine, exec, wake};
use microagent_protocol::flow::INITIAL_CREDIT;
use microagent_protocol::frame::{MAX_DATA, header};
use microagent_protocol::{Adopt, Kind, Recipients, RefusalCode, Reply, Request, Wake};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;

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
    Machine::start_with_port("another").ends_saying("no virtio-serial port named `microagent`");
}

#[test]
fn a_machine_that_stands_still_does_nothing_else_and_lives_on() {
    let mut machine = Machine::boot();
    machine.call(2, &exec("exec cat", [10, 11, 12]));
    machine.send(Kind::Data, 10, b"before");
    assert_eq!(machine.receive().payload, b"before");
    machine.call(3, &Request::Quiesce { purge: false });
    assert!(matches!(machine.reply(3), Reply::Quiet { .. }));
    // A host that sends bytes all the same has lost them.
    machine.send(Kind::Data, 10, &vec![0; MAX_DATA]);
    machine.send(Kind::Data, 77, &vec![0; MAX_DATA]);
    machine.send(Kind::Reset, 11, &[]);
    for (id, request) in [
        (4, Request::Sync),
        (5, exec("true", [20, 21, 22])),
        (6, Request::Shutdown),
        (7, Request::Quiesce { purge: false }),
        (8, Request::Signal { process: 2, signal: 9, to: Recipients::Group }),
        (9, Request::Boot(common::boot_request())),
    ] {
        machine.call(id, &request);
        let frame = machine.receive();
        assert_eq!((frame.kind, frame.id), (Kind::Reply, id));
        let reply = serde_json::from_slice(&frame.payload).unwrap();
        assert!(matches!(reply, Reply::Refused(refusal) if refusal.code == RefusalCode::WrongState), "{request:?}");
    }
    machine.call(30, &Request::Proceed { epoch_ns: common::now_ns() });
    assert_eq!(machine.reply(30), Reply::Done);
    machine.send(Kind::Data, 10, b"after");
    machine.send(Kind::End, 10, &[]);
    assert_eq!(machine.receive().payload, b"after");
    assert!(matches!(machine.reply(2), Reply::Exited(exit) if exit.code == Some(0)));
}

#[test]
fn only_a_machine_with_a_workspace_stands_still_and_only_one_that_does_goes_on() {
    let mut machine = Machine::greet();
    let refused = |machine: &mut Machine, id, request| {
        machine.call(id, &request);
        assert_eq!(machine.refusal(id), RefusalCode::WrongState, "{request:?}");
    };
    refused(&mut machine, 1, Request::Quiesce { purge: true });
    refused(&mut machine, 2, Request::Wake(wake()));
    machine.call(3, &Request::Boot(common::boot_request()));
    assert!(matches!(machine.reply(3), Reply::Booted { .. }));
    refused(&mut machine, 4, Request::Proceed { epoch_ns: 0 });
    refused(&mut machine, 5, Request::Wake(wake()));
    machine.call(6, &Request::Sync);
    assert_eq!(machine.reply(6), Reply::Done);
}

#[test]
fn a_copy_is_not_woken_with_what_would_mix_it_up() {
    let mut machine = Machine::boot();
    machine.call(2, &exec("read go; hostname; cat /etc/machine-id", [10, 11, 12]));
    machine.call(3, &exec("exec sleep 1000", [13, 14, 15]));
    machine.call(4, &Request::Quiesce { purge: false });
    assert!(matches!(machine.reply(4), Reply::Quiet { .. }));
    let adopt = |was, call, stdin, stdout, stderr| Adopt { was, call, stdin, stdout, stderr };
    let good = adopt(2, 102, Some(110), 111, 112);
    let bad = [
        Wake { adopt: vec![good, adopt(2, 103, None, 114, 115)], ..wake() },
        Wake { adopt: vec![good, adopt(3, 102, None, 114, 115)], ..wake() },
        Wake { adopt: vec![good, adopt(3, 103, Some(111), 114, 115)], ..wake() },
        Wake { adopt: vec![good, adopt(3, 99, None, 114, 115)], ..wake() },
        Wake { hostname: "a/b".to_owned(), ..wake() },
        Wake { machine_id: "short".to_owned(), ..wake() },
        Wake { boot_id: "not a UUID".to_owned(), ..wake() },
        Wake { entropy: vec![1; 31], ..wake() },
    ];
    for wake in bad {
        machine.call(99, &Request::Wake(wake.clone()));
        assert_eq!(machine.refusal(99), RefusalCode::BadRequest, "{wake:?}");
    }
    // Nothing has changed, and it still stands still.
    machine.call(98, &Request::Sync);
    assert_eq!(machine.refusal(98), RefusalCode::WrongState);
    machine.call(97, &Request::Proceed { epoch_ns: common::now_ns() });
    machine.send(Kind::End, 10, &[]);
    assert_eq!(machine.reply(97), Reply::Done);
    let mut said = Vec::new();
    loop {
        let frame = machine.receive();
        match frame.kind {
            Kind::Data => said.extend(frame.payload),
            Kind::Reply => break assert_eq!(frame.id, 2),
            _ => {}
        }
    }
    assert_eq!(String::from_utf8(said).unwrap(), "testbox\n0123456789abcdef0123456789abcdef\n");
}
