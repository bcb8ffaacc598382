//! Standard streams: whole, apart, bounded, and independent of each other. All tests share one machine.

mod common;

use common::{Guest, command, shell, with_input};
use microagent_protocol::{Recipients, Request, flow::INITIAL_CREDIT};
use std::io::{ErrorKind, Read, Write};
use std::sync::LazyLock;
use std::{fs, thread};

static GUEST: LazyLock<Guest> = LazyLock::new(Guest::boot);

const MIB: usize = 1 << 20;

#[test]
fn output_is_the_bytes_that_were_written() {
    let busybox = common::tool("busybox", "busybox-static");
    let expected = fs::read(busybox.get_program()).unwrap();
    let finished = GUEST.run(command(&["cat", "/bin/busybox"])).unwrap();
    assert!(finished.stdout == expected, "{} bytes of {}", finished.stdout.len(), expected.len());
}

#[test]
fn fifty_megabytes_on_each_output_stay_apart() {
    let script = "head -c 52428800 /dev/zero | tr '\\0' o & head -c 52428800 /dev/zero | tr '\\0' e >&2; wait";
    let finished = GUEST.run(shell(script)).unwrap();
    assert_eq!((finished.stdout.len(), finished.stderr.len()), (50 * MIB, 50 * MIB));
    assert!(finished.stdout.iter().all(|&byte| byte == b'o'));
    assert!(finished.stderr.iter().all(|&byte| byte == b'e'));
    assert_eq!(finished.exit.code, Some(0));
}

#[test]
fn ten_megabytes_of_input_arrive_and_end() {
    let content: Vec<u8> = (0..10 * MIB).map(|at| (at % 251) as u8).collect();
    let expected = content.clone();
    let mut running = GUEST.start(with_input(command(&["cat"])));
    let mut stdin = running.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&content));
    let finished = running.finish().unwrap();
    writer.join().unwrap().unwrap();
    assert!(finished.stdout == expected, "{} bytes", finished.stdout.len());
}

#[test]
fn input_that_is_not_given_is_at_its_end() {
    assert_eq!(GUEST.run(command(&["cat"])).unwrap().stdout, b"");
    assert_eq!(GUEST.shell("readlink /proc/self/fd/0"), "/dev/null\n");
    assert_eq!(GUEST.run(with_input(command(&["cat"]))).unwrap().stdout, b"");
}

#[test]
fn input_nobody_reads_does_not_hold_up_the_command_or_the_host() {
    for script in ["true", "exec <&-; cat /bin/busybox >/dev/null"] {
        let mut running = GUEST.start(with_input(shell(script)));
        let mut stdin = running.stdin.take().unwrap();
        let writer = thread::spawn(move || stdin.write_all(&vec![0; 10 * MIB]).unwrap_err().kind());
        assert_eq!(running.finish().unwrap().exit.code, Some(0), "{script}");
        assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe, "{script}");
    }
}

#[test]
fn input_waits_in_the_host_while_the_command_does_not_read() {
    let mut running = GUEST.start(with_input(shell("read line; echo \"$line\"; exec cat >/dev/null")));
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    assert_eq!(running.stdout.next_chunk().unwrap().as_deref(), Some(&b"first\n"[..]));
    stdin.write_all(&vec![0; 4 * INITIAL_CREDIT as usize]).unwrap();
    stdin.finish();
    assert_eq!(running.finish().unwrap().exit.code, Some(0));
}

#[test]
fn a_command_whose_output_nobody_wants_gets_sigpipe() {
    let mut running = GUEST.start(command(&["yes"]));
    running.stdout.next_chunk().unwrap();
    let common::Running { call, stdout, stderr, .. } = running;
    drop((stdout, stderr));
    match common::answer(&call).unwrap() {
        microagent_protocol::Reply::Exited(exit) => assert_eq!(exit.signal, Some(13)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_that_is_not_read_stalls_its_command_and_nothing_else() {
    let stalled = GUEST.start(command(&["yes"]));
    for _ in 0..20 {
        assert_eq!(GUEST.shell("echo through"), "through\n");
    }
    let finished = GUEST.run(command(&["head", "-c", "4000000", "/dev/zero"])).unwrap();
    assert_eq!(finished.stdout.len(), 4_000_000);
    GUEST.ask(&Request::Signal { process: stalled.call.id(), signal: 9, to: Recipients::Group }).unwrap();
    let finished = stalled.finish().unwrap();
    assert_eq!(finished.exit.signal, Some(9));
    assert!(finished.stdout.len() >= INITIAL_CREDIT as usize);
}

#[test]
fn what_a_command_wrote_before_it_ended_survives_a_slow_reader_and_no_drain() {
    let exec = microagent_protocol::Exec { drain_ms: 0, ..shell("head -c 300000 /dev/zero; exec >&-; exit 4") };
    let mut running = GUEST.start(exec);
    // The credit is spent before the last byte is out; the rest waits in the pipe while the command has long ended.
    let mut first = [0; 1];
    running.stdout.read_exact(&mut first).unwrap();
    GUEST.shell("while ps -o args | grep -q '^head -c 300000'; do :; done");
    let mut rest = Vec::new();
    running.stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 299_999);
    assert_eq!(running.finish().unwrap().exit.code, Some(4));
}
