//! Commands with a terminal, and what becomes of sessions.

mod common;

use common::{Guest, Running, USER, command, shell, with_input};
use microagent_protocol::{Exec, Recipients, RefusalCode, Reply, Request, WindowSize};
use std::io::Write;
use std::sync::LazyLock;

static GUEST: LazyLock<Guest> = LazyLock::new(Guest::boot);

const SIZE: WindowSize = WindowSize { rows: 31, columns: 97 };

fn at_terminal(exec: Exec) -> Exec {
    Exec { tty: Some(SIZE), ..exec }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n")
}

/// What a script prints on a terminal nobody types at.
fn on_terminal(script: &str) -> String {
    let finished = GUEST.run(at_terminal(shell(script))).unwrap();
    assert_eq!((finished.exit.code, &finished.stderr[..]), (Some(0), &b""[..]), "{script}");
    text(&finished.stdout)
}

/// Reads what a command prints until that is in it.
fn read_until(running: &mut Running, awaited: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(awaited) {
        let chunk = running.stdout.next_chunk().unwrap();
        seen.push_str(&text(&chunk.unwrap_or_else(|| panic!("the output ended at {seen:?} before {awaited:?}"))));
    }
    seen
}

fn signal(running: &Running, signal: i32, to: Recipients) -> Result<Reply, microagent_protocol::Refusal> {
    GUEST.ask(&Request::Signal { process: running.call.id(), signal, to })
}

#[test]
fn all_three_streams_are_one_terminal_of_the_size_asked_for() {
    let script = "for fd in 0 1 2; do [ -t $fd ] && echo $fd; done; stty size; echo told >&2; echo $TERM";
    assert_eq!(on_terminal(script), "0\n1\n2\n31 97\ntold\nxterm\n");
    assert!(on_terminal("tty").starts_with("/dev/pts/"));
    let env = vec![common::PATH.to_owned(), "TERM=dumb".to_owned()];
    let finished = GUEST.run(at_terminal(Exec { env, ..shell("echo $TERM") })).unwrap();
    assert_eq!(text(&finished.stdout), "dumb\n");
}

#[test]
fn the_terminal_is_the_users_and_controls_its_session() {
    let exec = Exec {
        user: USER.0.to_owned(),
        ..shell("stat -c '%u %g %a' $(tty); echo hello >/dev/tty; echo $(($$ == $(cut -d ' ' -f 6 /proc/$$/stat)))")
    };
    let finished = GUEST.run(at_terminal(exec)).unwrap();
    assert_eq!(text(&finished.stdout), format!("{} 5 620\nhello\n1\n", USER.1));
}

#[test]
fn a_command_learns_of_a_new_size() {
    let mut running = GUEST
        .start(with_input(at_terminal(shell("trap 'stty size' WINCH; echo ready; while :; do read x && exit; done"))));
    read_until(&mut running, "ready\n");
    let size = WindowSize { rows: 50, columns: 132 };
    assert_eq!(GUEST.ask(&Request::Resize { process: running.call.id(), size }), Ok(Reply::Done));
    read_until(&mut running, "50 132\n");
    let plain = GUEST.start(command(&["sleep", "1000"]));
    let refused = GUEST.ask(&Request::Resize { process: plain.call.id(), size }).unwrap_err();
    assert_eq!(refused.code, RefusalCode::BadRequest);
    signal(&plain, 9, Recipients::Group).unwrap();
    plain.finish().unwrap();
    running.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(running.finish().unwrap().exit.code, Some(0));
}

#[test]
fn a_key_interrupts_what_is_in_the_foreground() {
    let mut running = GUEST.start(with_input(at_terminal(shell("echo ready; exec sleep 1000"))));
    read_until(&mut running, "ready\n");
    running.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let Running { call, stdin: _stdin, mut stdout, .. } = running;
    while stdout.next_chunk().unwrap().is_some() {}
    let Ok(Reply::Exited(exit)) = common::answer(&call) else { panic!() };
    assert_eq!(exit.signal, Some(2));
}

#[test]
fn the_end_of_the_input_is_the_end_of_the_file_where_lines_are_dealt_in() {
    for typed in [&b""[..], b"a line\n", b"a line that is open"] {
        let mut running = GUEST.start(with_input(at_terminal(shell("stty -echo; echo ready; cat; echo done"))));
        read_until(&mut running, "ready\n");
        running.stdin.as_mut().unwrap().write_all(typed).unwrap();
        let finished = running.finish().unwrap();
        assert_eq!(text(&finished.stdout), format!("{}done\n", text(typed)));
    }
    // In raw mode there is no such thing: the command goes on.
    let mut running = GUEST.start(with_input(at_terminal(shell(
        "stty raw -echo; echo ready; dd bs=1 count=1 2>/dev/null | od -An -tx1; echo over",
    ))));
    read_until(&mut running, "ready\n");
    drop(running.stdin.take());
    GUEST.ask(&Request::Sync).unwrap();
    assert_eq!(signal(&running, 15, Recipients::Session), Ok(Reply::Done));
    assert!(!text(&running.finish().unwrap().stdout).contains("04"));
}

#[test]
fn all_that_was_printed_arrives_and_a_terminal_nobody_looks_at_is_hung_up() {
    let finished = GUEST.run(at_terminal(Exec { drain_ms: 0, ..shell("seq 1 50000; exit 3") })).unwrap();
    let expected = (1..=50_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n") + "\n";
    assert!(text(&finished.stdout) == expected, "{} of {} bytes", finished.stdout.len(), expected.len());
    assert_eq!(finished.exit.code, Some(3));

    let mut running = GUEST.start(at_terminal(shell("echo ready; exec sleep 1000")));
    read_until(&mut running, "ready\n");
    let Running { call, stdout, .. } = running;
    drop(stdout);
    let Ok(Reply::Exited(exit)) = common::answer(&call) else { panic!() };
    assert_eq!(exit.signal, Some(1), "the hang-up kills");
}

#[test]
fn a_command_that_ends_hangs_up_what_it_left_at_its_terminal() {
    let finished = GUEST.run(at_terminal(shell("sleep 7654321 & echo started"))).unwrap();
    assert_eq!(text(&finished.stdout), "started\n");
    let gone = "n=0; while ps -o args | grep -q '^sleep 7654321'; do n=$((n + 1)); [ $n -lt 1000 ] || exit 1; done";
    // A background process of a shell without job control is in the foreground group.
    GUEST.shell(gone);
}

#[test]
fn a_signal_to_the_session_reaches_every_group_of_it_and_nobody_who_left() {
    let script = "set -m; sleep 1111111 & sleep 2222222 & setsid sleep 3333333 >/dev/null 2>&1 & set +m; echo started; sleep 4444444";
    let mut running = GUEST.start(shell(script));
    read_until(&mut running, "started\n");
    let left = "n=0; until ps -o args | grep -q '^sleep 3333333'; do n=$((n + 1)); [ $n -lt 1000 ] || exit 1; done";
    GUEST.shell(left);
    assert_eq!(signal(&running, 9, Recipients::Session), Ok(Reply::Done));
    assert_eq!(running.finish().unwrap().exit.signal, Some(9));
    let sleeping = GUEST.shell("ps -o args | grep '^sleep [1-4]'; true");
    assert_eq!(sleeping, "sleep 3333333\n");
    GUEST.shell("kill $(ps -o pid,args | grep '[s]leep 3333333' | awk '{ print $1 }')");
}

#[test]
fn what_ignores_a_signal_and_holds_the_output_is_killed_with_the_session_after_the_command() {
    let script =
        "(trap '' TERM; set -m; sh -c 'trap \"\" TERM; sleep 5555555; sleep 5555555' & echo started; wait) & wait";
    let mut running = GUEST.start(shell(script));
    read_until(&mut running, "started\n");
    signal(&running, 15, Recipients::Group).unwrap();
    // The command itself has ended when its group cannot be signalled any more; its reply waits for the output.
    while signal(&running, 15, Recipients::Group).is_ok() {}
    assert_eq!(signal(&running, 9, Recipients::Session), Ok(Reply::Done));
    let refused = signal(&running, 15, Recipients::Group).unwrap_err();
    assert_eq!(refused.code, RefusalCode::NoSuchProcess);
    assert_eq!(running.finish().unwrap().exit.signal, Some(15));
    assert_eq!(GUEST.shell("ps -o args | grep '^sleep 5555555'; true"), "");
}

#[test]
fn a_hundred_terminals_come_and_go() {
    let guest = Guest::boot();
    for n in 0..100 {
        let finished = guest.run(at_terminal(command(&["echo", &n.to_string()]))).unwrap();
        assert_eq!(text(&finished.stdout), format!("{n}\n"));
    }
    assert_eq!(guest.shell("ls /dev/pts"), "ptmx\n");
}
