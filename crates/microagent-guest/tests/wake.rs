//! A machine that goes on as another. The copying itself is left out: for the agent it is a channel on which somebody else speaks.

mod common;

use common::boot_request;
use common::machine::{Machine, exec, wake};
use microagent_protocol::flow::INITIAL_CREDIT;
use microagent_protocol::frame::MAX_DATA;
use microagent_protocol::{Adopt, Boot, Frame, Kind, Owner, RefusalCode, Reply, Request, Wake};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn adopt(was: u32, first: u32) -> Adopt {
    Adopt { was, call: first, stdin: Some(first + 1), stdout: first + 2, stderr: first + 3 }
}

/// Has the machine stand still and go on as another. Ids of the former life are below 1000.
fn copy(machine: &mut Machine, wake: &Wake) {
    machine.call(900, &Request::Quiesce { purge: false });
    assert!(matches!(machine.reply(900), Reply::Quiet { .. }));
    machine.call(1000, &Request::Wake(wake.clone()));
    let first = machine.receive();
    assert_eq!((first.kind, first.id), (Kind::Reply, 1000));
    assert_eq!(serde_json::from_slice::<Reply>(&first.payload).unwrap(), Reply::Done);
}

/// Waits for the replies to `calls`, and returns everything that came, none of which may be of the former life.
fn until_answered(machine: &mut Machine, calls: &[u32]) -> Vec<Frame> {
    let mut seen: Vec<Frame> = Vec::new();
    while !calls.iter().all(|call| seen.iter().any(|frame| (frame.kind, frame.id) == (Kind::Reply, *call))) {
        let frame = machine.receive();
        assert!(frame.id >= 1000, "{:?} {} {}", frame.kind, frame.id, String::from_utf8_lossy(&frame.payload));
        seen.push(frame);
    }
    seen
}

fn said(seen: &[Frame], stream: u32) -> String {
    let data = seen.iter().filter(|frame| (frame.kind, frame.id) == (Kind::Data, stream));
    String::from_utf8(data.flat_map(|frame| frame.payload.clone()).collect()).unwrap()
}

fn has(seen: &[Frame], kind: Kind, id: u32) -> bool {
    seen.iter().any(|frame| (frame.kind, frame.id) == (kind, id))
}

fn reply(seen: &[Frame], call: u32) -> Reply {
    let frame = seen.iter().find(|frame| (frame.kind, frame.id) == (Kind::Reply, call)).unwrap();
    serde_json::from_slice(&frame.payload).unwrap()
}

/// Runs a script in the new life and returns what it said.
fn run(machine: &mut Machine, call: u32, script: &str) -> String {
    machine.call(call, &exec(script, [call + 1, call + 2, call + 3]));
    let seen = until_answered(machine, &[call]);
    said(&seen, call + 2) + &said(&seen, call + 3)
}

#[test]
fn a_copy_is_somebody_else_for_all_who_run_in_it() {
    let mut machine = Machine::boot();
    machine.call(2, &exec(&format!("cat {BOOT_ID}"), [10, 11, 12]));
    let kernels = machine.said(11);
    assert_eq!(kernels.len(), 37);
    let who = format!("hostname; cat /etc/hostname /etc/machine-id {BOOT_ID}; head -n 1 /etc/hosts; date +%Y");
    machine.call(3, &exec(&format!("read go; {who}"), [20, 21, 22]));
    machine.call(4, &exec("cat /etc/hosts >/dev/null; stat -c %s /etc/hosts", [30, 31, 32]));
    machine.reply(4);
    let wake = Wake { epoch_ns: 2_500_000_000_000_000_000, adopt: vec![adopt(3, 1010)], ..wake() };
    copy(&mut machine, &wake);
    machine.send(Kind::Data, 1011, b"go\n");
    let seen = until_answered(&mut machine, &[1010]);
    let expected = format!("copy\ncopy\n{}\n{}\n127.0.0.1 localhost copy\n2049\n", wake.machine_id, wake.boot_id);
    assert_eq!(said(&seen, 1012), expected, "{}", said(&seen, 1013));
    assert_eq!(run(&mut machine, 1020, &who), expected);
    // A copy of the copy, with a longer name and then a shorter one.
    for (hostname, boot_id) in
        [("a-much-longer-name-than-before", "11111111-2222-3333-4444-555555555555"), ("b", &*wake.boot_id)]
    {
        let again = Wake { hostname: hostname.to_owned(), boot_id: boot_id.to_owned(), ..wake.clone() };
        let again = Wake { adopt: Vec::new(), ..again };
        machine.call(1900, &Request::Quiesce { purge: false });
        assert!(matches!(machine.reply(1900), Reply::Quiet { .. }));
        machine.call(1901, &Request::Wake(again));
        assert_eq!(machine.reply(1901), Reply::Done);
        let expected = expected.replace("copy", hostname).replace(&wake.boot_id, boot_id);
        assert_eq!(run(&mut machine, 1020, &who), expected);
    }
    assert_eq!(
        run(&mut machine, 1020, &format!("grep -c boot_id /proc/mounts; umount {BOOT_ID}; cat {BOOT_ID}")),
        format!("1\n{kernels}")
    );
    // The workspace itself is what it was, and its disk comes to rest.
    let changes = |machine: &mut Machine| {
        machine.call(1030, &Request::Changes { output: 1031 });
        said(&until_answered(machine, &[1030]), 1031)
    };
    assert_eq!(changes(&mut machine), "");
    machine.call(1040, &Request::Shutdown);
    assert_eq!(machine.reply(1040), Reply::Done);
}

#[test]
fn adopted_commands_go_on_and_are_answered_and_no_others() {
    let mut machine = Machine::boot();
    machine.call(2, &exec("read word; echo \"got $word\"; exit 3", [10, 11, 12]));
    machine.call(3, &exec("echo started; read go; exit 7", [20, 21, 22]));
    machine.call(4, &exec("exec >&-; echo closed >&2; read go", [30, 31, 32]));
    machine.call(5, &exec("exec <&-; echo closed >&2; sleep 1000", [40, 41, 42]));
    machine.call(6, &exec("while :; do echo lost || exit; sleep 0.1; done", [50, 51, 52]));
    machine.call(7, &exec("echo ready; exec cat", [60, 61, 62]));
    machine.call(8, &exec("true", [70, 71, 72]));
    // All of them are where they are to be.
    let mut waited = vec![
        (Kind::Data, 21),
        (Kind::Data, 32),
        (Kind::Data, 42),
        (Kind::Data, 51),
        (Kind::Data, 61),
        (Kind::Reply, 8),
    ];
    while !waited.is_empty() {
        let frame = machine.receive();
        waited.retain(|what| *what != (frame.kind, frame.id));
    }
    machine.send(Kind::Data, 40, b"x");
    machine.send(Kind::Data, 20, b"go\n");
    let adopted = [
        Adopt { was: 2, call: 1010, stdin: Some(1011), stdout: 1012, stderr: 1013 },
        adopt(3, 1020),
        adopt(4, 1030),
        adopt(5, 1040),
        // Without its input.
        Adopt { stdin: None, ..adopt(7, 1060) },
        // These have been answered, or have never been.
        adopt(8, 1070),
        adopt(77, 1080),
    ];
    machine.call(900, &Request::Quiesce { purge: false });
    let mut ended = false;
    loop {
        let frame = machine.receive();
        ended |= (frame.kind, frame.id) == (Kind::Reply, 3);
        if frame.id == 900 {
            break;
        }
    }
    machine.call(1000, &Request::Wake(Wake { adopt: adopted.to_vec(), ..wake() }));
    assert_eq!(machine.reply(1000), Reply::Done);
    machine.send(Kind::Data, 1011, b"word\n");
    machine.send(Kind::End, 1031, &[]);
    let seen = until_answered(&mut machine, &[1010, 1020, 1030, 1060, 1070, 1080]);
    assert_eq!(said(&seen, 1012), "got word\n");
    assert!(matches!(reply(&seen, 1010), Reply::Exited(exit) if exit.code == Some(3)));
    match reply(&seen, 1020) {
        Reply::Exited(exit) if !ended => assert_eq!(exit.code, Some(7)),
        Reply::Refused(refusal) if ended => assert_eq!(refusal.code, RefusalCode::NoSuchProcess),
        other => panic!("{other:?}, and it had ended: {ended}"),
    }
    assert!(matches!(reply(&seen, 1030), Reply::Exited(exit) if exit.code == Some(1)), "its input ended");
    assert!(has(&seen, Kind::End, 1032), "it had closed its output");
    assert!(has(&seen, Kind::Reset, 1041), "it had closed its input");
    assert!(matches!(reply(&seen, 1060), Reply::Exited(exit) if exit.code == Some(0)), "its input ended");
    for gone in [1070, 1080] {
        assert!(matches!(reply(&seen, gone), Reply::Refused(refusal) if refusal.code == RefusalCode::NoSuchProcess));
        assert!(
            has(&seen, Kind::Reset, gone + 1) && has(&seen, Kind::End, gone + 2) && has(&seen, Kind::End, gone + 3)
        );
    }
    let rest = run(&mut machine, 1100, "while ps -o args | grep -q 'echo [l]ost'; do sleep 0.1; done; echo gone");
    assert_eq!(rest, "gone\n", "whose output nobody wants gets SIGPIPE");
    // Ids of the former life mean nothing any more.
    machine.call(2, &exec("echo new", [10, 11, 12]));
    assert_eq!(machine.said(11), "new\n");
    machine.call(1200, &Request::Signal { process: 5, signal: 9, to: microagent_protocol::Recipients::Group });
    assert_eq!(machine.refusal(1200), RefusalCode::NoSuchProcess);
    machine.call(1201, &Request::Signal { process: 1040, signal: 9, to: microagent_protocol::Recipients::Group });
    assert_eq!(machine.reply(1201), Reply::Done);
    assert!(matches!(machine.reply(1040), Reply::Exited(exit) if exit.signal == Some(9)));
}

#[test]
fn what_was_on_its_way_to_and_from_a_command_is_not_lost() {
    const OUTPUT: usize = 3 * INITIAL_CREDIT as usize;
    let mut machine = Machine::boot();
    machine.call(2, &exec(&format!("head -c {OUTPUT} /dev/zero | tr '\\0' o; sleep 1"), [10, 11, 12]));
    machine.call(3, &exec("echo ready; read go </tmp/go; wc -c", [20, 21, 22]));
    machine.call(4, &exec("mkfifo /tmp/go", [30, 31, 32]));
    let mut sent = 0;
    while sent < INITIAL_CREDIT as usize {
        let frame = machine.receive();
        if (frame.kind, frame.id) == (Kind::Data, 11) {
            sent += frame.payload.len();
        }
    }
    let window = |machine: &mut Machine, stream| {
        for _ in 0..INITIAL_CREDIT as usize / MAX_DATA {
            machine.send(Kind::Data, stream, &vec![b'i'; MAX_DATA]);
        }
    };
    window(&mut machine, 20);
    copy(&mut machine, &Wake { adopt: vec![adopt(2, 1010), adopt(3, 1020)], ..wake() });
    window(&mut machine, 1021);
    machine.send(Kind::End, 1021, &[]);
    machine.call(1030, &exec("echo go >/tmp/go", [1031, 1032, 1033]));
    let mut seen = Vec::new();
    let mut credit = INITIAL_CREDIT as usize;
    while !(has(&seen, Kind::Reply, 1010) && has(&seen, Kind::Reply, 1020)) {
        let frame = machine.receive();
        if (frame.kind, frame.id) == (Kind::Data, 1012) {
            credit -= frame.payload.len();
            sent += frame.payload.len();
            if credit == 0 {
                credit = INITIAL_CREDIT as usize;
                machine.send(Kind::Credit, 1012, &INITIAL_CREDIT.to_le_bytes());
            }
        } else {
            assert!(frame.id >= 1000, "{:?} {}", frame.kind, frame.id);
            seen.push(frame);
        }
    }
    assert_eq!(sent, OUTPUT);
    assert_eq!(said(&seen, 1022).trim(), (2 * INITIAL_CREDIT).to_string());
}

#[test]
fn connections_and_work_on_files_end_with_the_former_life() {
    let mut machine = Machine::boot_with(Boot { sockets: vec!["door".to_owned()], ..boot_request() });
    machine.call(2, &exec("nc -l -p 99; echo \"over: $?\"", [10, 11, 12]));
    machine.call(3, &exec("while ! grep -q ':0063 ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done", [20, 21, 22]));
    machine.reply(3);
    machine.call(4, &Request::Connect { port: 99, input: 30, output: 31 });
    assert_eq!(machine.reply(4), Reply::Done);
    machine.send(Kind::Data, 30, b"through\n");
    while machine.receive().id != 11 {}
    machine.call(5, &Request::Accept { socket: "door".to_owned(), input: 40, output: 41 });
    machine.call(6, &Request::Unpack { directory: "/tmp".to_owned(), input: 50, owner: Owner::Keep });
    machine.send(Kind::Data, 50, &[0; 100]);
    copy(&mut machine, &Wake { adopt: vec![adopt(2, 1010), adopt(6, 1020)], ..wake() });
    let seen = until_answered(&mut machine, &[1010, 1020]);
    assert_eq!(said(&seen, 1012), "over: 0\n");
    assert!(matches!(reply(&seen, 1020), Reply::Refused(refusal) if refusal.code == RefusalCode::NoSuchProcess));
    // Their ids are free, and nobody is told that they were used.
    machine.call(4, &Request::Accept { socket: "door".to_owned(), input: 30, output: 31 });
    machine.call(1100, &Request::Time);
    let next = machine.receive();
    assert_eq!((next.kind, next.id), (Kind::Reply, 1100));
}
