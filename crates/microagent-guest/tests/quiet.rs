//! A machine that stands still, without its secrets, and goes on.

mod common;

use common::machine::{Machine, exec};
use common::{Guest, Running, answer, boot_request, now_ns, shell, soon, with_input, workspace_disk};
use microagent_machine::Error;
use microagent_protocol::{Boot, Kind, RefusalCode, Reply, Request};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Long enough for the guest to do in it what it is about to do.
const WHILE: Duration = Duration::from_secs(4);

fn with_secrets() -> Guest {
    let directory = tempfile::tempdir().unwrap();
    workspace_disk(directory.path());
    let guest = Guest::greet(directory);
    guest.ask(&Request::Boot(Boot { secrets: true, ..boot_request() })).unwrap();
    guest
}

fn store(guest: &Guest, name: &str, value: &[u8]) {
    let mut input = guest.channel.input();
    let request = Request::Secret { name: name.to_owned(), user: String::new(), input: input.id() };
    let call = guest.channel.call(&request).unwrap();
    input.write_all(value).unwrap();
    drop(input);
    assert_eq!(answer(&call), Ok(Reply::Done));
}

/// Purges, and goes on.
fn purge(guest: &Guest) {
    let held = guest.channel.hold(true, soon()).unwrap();
    let epoch_ns = held.epoch_ns(soon()).unwrap();
    held.proceed(epoch_ns, soon()).unwrap();
}

#[test]
fn nothing_is_said_while_it_stands_still_and_all_of_it_afterwards() {
    let mut machine = Machine::boot();
    machine.call(2, &exec("while :; do echo tick; sleep 0.1; done", [10, 11, 12]));
    machine.call(3, &exec("read go; exit 7", [20, 21, 22]));
    while machine.receive().kind != Kind::Data {}
    machine.send(Kind::Data, 20, b"go\n");
    machine.call(4, &Request::Sync);
    machine.call(5, &Request::Quiesce { purge: false });
    let mut seen = Vec::new();
    let quiet_ns = loop {
        let frame = machine.receive();
        seen.push((frame.kind, frame.id));
        if frame.id == 5 {
            match serde_json::from_slice(&frame.payload).unwrap() {
                Reply::Quiet { monotonic_ns } => break monotonic_ns,
                other => panic!("{other:?}"),
            }
        }
    };
    machine.stream.set_read_timeout(Some(WHILE)).unwrap();
    assert_eq!(machine.stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "after {seen:?}");
    machine.stream.set_read_timeout(Some(common::SOON)).unwrap();
    machine.call(6, &Request::Time);
    let Reply::Time { monotonic_ns } = machine.reply(6) else { panic!() };
    assert!(monotonic_ns > quiet_ns);

    let day = 86_400_000_000_000;
    machine.call(7, &Request::Proceed { epoch_ns: now_ns() - monotonic_ns + day });
    let first = machine.receive();
    assert_eq!((first.kind, first.id), (Kind::Reply, 7), "before everything that waited");
    let is_told = |seen: &[(Kind, u32)], what| seen.contains(&what);
    while ![(Kind::Reply, 3), (Kind::Reply, 4)].iter().all(|what| is_told(&seen, *what)) {
        let frame = machine.receive();
        if (frame.kind, frame.id) == (Kind::Reply, 3) {
            assert!(matches!(serde_json::from_slice(&frame.payload), Ok(Reply::Exited(exit)) if exit.code == Some(7)));
        }
        seen.push((frame.kind, frame.id));
    }
    while machine.receive().id != 11 {}
    machine.call(8, &exec("date +%s", [30, 31, 32]));
    let said = machine.said(31);
    let clock: u64 = said.trim().parse().unwrap();
    assert!(clock.abs_diff((now_ns() + day) / 1_000_000_000) < common::SOON.as_secs(), "{clock}");
}

#[test]
fn a_channel_that_is_held_waits_and_goes_on() {
    let guest = Guest::boot();
    let Running { call, stdin, mut stdout, .. } = guest.start(with_input(shell("cat; echo done")));
    let held = guest.channel.hold(false, soon()).unwrap();
    let mut stdin = stdin.unwrap();
    let typing = std::thread::spawn(move || stdin.write_all(b"typed meanwhile\n"));
    assert!(held.monotonic_ns() > 0);
    let epoch_ns = held.epoch_ns(soon()).unwrap();
    held.proceed(epoch_ns, soon()).unwrap();
    typing.join().unwrap().unwrap();
    let mut said = String::new();
    stdout.read_to_string(&mut said).unwrap();
    assert_eq!(said, "typed meanwhile\ndone\n");
    assert!(answer(&call).is_ok());
    // Also where nobody says so.
    drop(guest.channel.hold(false, soon()).unwrap());
    assert_eq!(guest.shell("echo on"), "on\n");
}

#[test]
fn secrets_are_overwritten_and_removed_whatever_has_become_of_them() {
    let guest = with_secrets();
    for name in ["KEPT", "MOVED", "HIDDEN"] {
        store(&guest, name, b"the value\n");
    }
    let reader = guest.start(with_input(shell("exec 3</run/secrets/KEPT; echo open; read go; tr '\\0' 0 <&3")));
    let mut reader = reader;
    assert_eq!(reader.stdout.next_chunk().unwrap().as_deref(), Some(&b"open\n"[..]));
    guest.shell(
        "cd /run/secrets; mkdir .d; mv MOVED .d/else; ln KEPT again; ln -s /etc/passwd link; mkfifo fifo; \
         mount -t tmpfs none .d; mount -t tmpfs none /run/secrets",
    );
    store(&guest, "UNDERNEATH", b"the value\n");
    assert_eq!(guest.shell("ls -A /run/secrets"), "");
    purge(&guest);
    guest.shell("umount /run/secrets");
    assert_eq!(guest.shell("ls -A /run/secrets; grep -c root /etc/passwd"), "1\n");
    reader.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(reader.finish().unwrap().stdout, b"0000000000");
    // They are given again to whoever goes on with them.
    store(&guest, "KEPT", b"again\n");
    assert_eq!(guest.shell("cat /run/secrets/KEPT"), "again\n");
    guest.shut_down();
}

#[test]
fn a_machine_that_cannot_be_rid_of_its_secrets_does_not_stand_still() {
    let guest = with_secrets();
    store(&guest, "KEPT", b"the value\n");
    let refused = |purge| match guest.channel.hold(purge, soon()) {
        Err(Error::Refused(refusal)) => refusal.code,
        other => panic!("{:?}", other.map(drop)),
    };
    guest.shell("mount -o remount,ro /run/secrets");
    assert_eq!(refused(true), RefusalCode::System);
    assert_eq!(guest.shell("cat /run/secrets/KEPT; mount -o remount,rw /run/secrets"), "the value\n");
    let mut input = guest.channel.input();
    let request = Request::Secret { name: "LATE".to_owned(), user: String::new(), input: input.id() };
    let call = guest.channel.call(&request).unwrap();
    input.write_all(b"half of ").unwrap();
    assert_eq!(refused(true), RefusalCode::WrongState);
    // Where it may stay, it goes on.
    drop(guest.channel.hold(false, soon()).unwrap());
    input.write_all(b"it").unwrap();
    drop(input);
    assert_eq!(answer(&call), Ok(Reply::Done));
    assert_eq!(guest.shell("cat /run/secrets/LATE"), "half of it");
    purge(&guest);
    assert_eq!(guest.shell("ls -A /run/secrets"), "");
}

/// How often a word, given backwards, is in the memory that the agent may write to. It is given backwards because the agent reads the request.
fn found_in_agent(guest: &Guest, backwards: &str) -> u64 {
    let found = guest.shell(&format!(
        "word=$(echo {backwards} | rev)
        grep ' rw' /proc/1/maps | grep -v vvar | cut -d ' ' -f 1 | tr - ' ' | while read from to; do
            dd if=/proc/1/mem bs=4096 skip=$((0x$from / 4096)) count=$(((0x$to - 0x$from) / 4096)) 2>/dev/null
        done | tr -c 'a-z' '\\n' | grep -c $word || true"
    ));
    found.trim().parse().unwrap()
}

#[test]
fn nothing_of_a_secret_stays_in_the_agent() {
    let guest = with_secrets();
    // What is to be found is found.
    let idle = guest.start(with_input(shell("exec sleep 1000")));
    let mut stdin = idle.stdin.unwrap();
    stdin.write_all(&b"plaintext ".repeat(20_000)).unwrap();
    guest.shell("true");
    assert!(found_in_agent(&guest, "txetnialp") > 0);
    store(&guest, "SHORT", &b"needlehay ".repeat(3));
    store(&guest, "LONG", &b"needlehay ".repeat(100_000));
    assert_eq!(found_in_agent(&guest, "yaheldeen"), 0);
    // Nor of one that was refused before it had arrived.
    let mut input = guest.channel.input();
    let request = Request::Secret { name: "NAME".to_owned(), user: "nobody-there".to_owned(), input: input.id() };
    let call = guest.channel.call(&request).unwrap();
    let _ = input.write_all(&b"needlehay ".repeat(20_000));
    assert_eq!(answer(&call).unwrap_err().code, RefusalCode::UserUnknown);
    drop(input);
    assert_eq!(found_in_agent(&guest, "yaheldeen"), 0);
}
