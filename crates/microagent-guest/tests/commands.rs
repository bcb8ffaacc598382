//! Commands: how they start, what they find, how they end. All tests share one machine, and so run side by side in it.

mod common;

use common::{Guest, USER, command, shell};
use microagent_protocol::{Exec, Exit, Recipients, RefusalCode, Reply, Request};
use std::sync::LazyLock;
use std::thread;
use std::time::Instant;

static GUEST: LazyLock<Guest> = LazyLock::new(Guest::boot);

fn exit_of(exec: Exec) -> Exit {
    GUEST.run(exec).unwrap().exit
}

fn refusal_of(exec: Exec) -> RefusalCode {
    GUEST.run(exec).expect_err("the command ran").code
}

#[test]
fn exit_codes_arrive_as_they_are() {
    for code in [0, 1, 7, 255] {
        let exit = exit_of(shell(&format!("exit {code}")));
        assert_eq!((exit.code, exit.signal), (Some(code), None));
    }
}

#[test]
fn a_command_killed_by_a_signal_is_told_from_one_that_exits() {
    let exit = exit_of(shell("kill -9 $$"));
    assert_eq!((exit.code, exit.signal, exit.status()), (None, Some(9), 137));
}

#[test]
fn the_times_of_a_command_are_in_order_and_by_the_hosts_clock() {
    let before = common::now_ns();
    let exit = exit_of(command(&["true"]));
    assert!(exit.started_ns <= exit.exited_ns, "{exit:?}");
    // The guest's clock was set when it booted; emulated clocks drift a little.
    let drift = exit.started_ns.abs_diff(before);
    assert!(drift < common::SOON.as_nanos() as u64, "{drift} ns apart");
}

#[test]
fn a_command_needs_no_shell() {
    let finished = GUEST.run(command(&["echo", "a b", "$HOME", ""])).unwrap();
    assert_eq!(finished.stdout, b"a b $HOME \n");
}

#[test]
fn what_never_ran_is_told_from_what_failed() {
    assert_eq!(refusal_of(command(&["no-such-command"])), RefusalCode::CommandNotFound);
    assert_eq!(refusal_of(command(&["/no/such/command"])), RefusalCode::CommandNotFound);
    assert_eq!(refusal_of(command(&[""])), RefusalCode::CommandNotFound);
    assert_eq!(refusal_of(command(&["not-executable"])), RefusalCode::CommandNotExecutable);
    assert_eq!(refusal_of(command(&["/bin"])), RefusalCode::CommandNotExecutable);
    assert_eq!(refusal_of(command(&["no-interpreter"])), RefusalCode::CommandNotExecutable);
    assert_eq!(refusal_of(command(&[])), RefusalCode::BadRequest);
    assert_eq!(refusal_of(command(&["true", "nul\0"])), RefusalCode::BadRequest);
    assert_eq!(exit_of(shell("no-such-command 2>/dev/null")).code, Some(127));
}

#[test]
fn an_argument_list_longer_than_linux_takes_is_refused() {
    let long = "x".repeat(1 << 20);
    assert_eq!(refusal_of(command(&["true", &long])), RefusalCode::BadRequest);
}

#[test]
fn a_command_is_looked_up_in_its_own_path() {
    let exec = Exec { env: vec!["PATH=/nowhere".to_owned()], ..command(&["true"]) };
    assert_eq!(refusal_of(exec), RefusalCode::CommandNotFound);
    let exec = Exec { env: vec![], ..command(&["true"]) };
    assert_eq!(exit_of(exec).code, Some(0), "`/bin` is on the default path");
}

#[test]
fn the_environment_is_the_one_given_and_home() {
    let exec = Exec { env: vec!["A=1".to_owned(), "B=two words".to_owned()], ..command(&["/bin/env"]) };
    assert_eq!(GUEST.run(exec).unwrap().stdout, b"A=1\nB=two words\nHOME=/root\n");
    let exec = Exec { env: vec!["HOME=/elsewhere".to_owned()], ..command(&["/bin/env"]) };
    assert_eq!(GUEST.run(exec).unwrap().stdout, b"HOME=/elsewhere\n");
}

#[test]
fn a_command_runs_as_the_user_asked_for() {
    let identity = |user: &str| {
        let exec = Exec { user: user.to_owned(), ..shell("id -u; id -g; id -G; echo $HOME") };
        String::from_utf8(GUEST.run(exec).unwrap().stdout).unwrap().replace('\n', " ")
    };
    assert_eq!(identity(""), "0 0 0 /root ");
    assert_eq!(identity("app"), "1000 1001 1001 10 /home/app ");
    assert_eq!(identity("app:wheel"), "1000 10 10 /home/app ");
    assert_eq!(identity("1000"), identity("app"));
    assert_eq!(identity("4242"), "4242 0 0 / ");
    assert_eq!(identity("4242:4343"), "4242 4343 4343 / ");
    for unknown in ["nobody-here", "app:nobodies", "-1", "4294967295"] {
        let exec = Exec { user: unknown.to_owned(), ..command(&["true"]) };
        assert_eq!(refusal_of(exec), RefusalCode::UserUnknown, "{unknown}");
    }
}

#[test]
fn a_user_can_open_its_standard_streams_anew() {
    let exec = Exec { user: USER.0.to_owned(), ..shell("echo out >/dev/stdout; echo err >/dev/stderr") };
    let finished = GUEST.run(exec).unwrap();
    assert_eq!((finished.stdout, finished.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
}

#[test]
fn a_working_directory_that_is_absent_is_made() {
    let exec = Exec { cwd: "/made/for this".to_owned(), ..shell("pwd; stat -c '%u %a' .") };
    assert_eq!(GUEST.run(exec).unwrap().stdout, b"/made/for this\n0 755\n");
}

#[test]
fn a_working_directory_that_cannot_be_is_refused() {
    let at =
        |cwd: &str, user: &str| refusal_of(Exec { cwd: cwd.to_owned(), user: user.to_owned(), ..command(&["true"]) });
    assert_eq!(at("/etc/passwd", ""), RefusalCode::WorkingDirectory);
    assert_eq!(at("/etc/passwd/below", ""), RefusalCode::WorkingDirectory);
    assert_eq!(at("relative", ""), RefusalCode::BadRequest);
    GUEST.shell("mkdir -m 700 /private");
    assert_eq!(at("/private", USER.0), RefusalCode::WorkingDirectory);
}

#[test]
fn a_command_finds_an_ordinary_process_around_it() {
    let script = "grep -E '^(SigBlk|SigIgn|Seccomp):' /proc/self/status | tr -d '\\t'; umask; ulimit -n; ulimit -Hn; \
        ls /proc/self/fd | tr '\\n' ' '; echo; [ $(cut -d ' ' -f 5 /proc/$$/stat) = $$ ] && echo leads its group";
    let expected =
        "SigBlk:0000000000000000\nSigIgn:0000000000000000\nSeccomp:0\n0022\n1024\n524288\n0 1 2 3 \nleads its group\n";
    assert_eq!(GUEST.shell(script), expected);
}

#[test]
fn a_signal_reaches_the_whole_process_group() {
    let running = GUEST.start(shell("sleep 1000 & echo started; wait"));
    let mut running = running;
    let chunk = running.stdout.next_chunk().unwrap();
    assert_eq!(chunk.as_deref(), Some(&b"started\n"[..]));
    let call = running.call.id();
    assert_eq!(GUEST.ask(&Request::Signal { process: call, signal: 15, to: Recipients::Group }), Ok(Reply::Done));
    // The streams end only when the background process, which holds them too, is gone.
    let finished = running.finish().unwrap();
    assert_eq!(finished.exit.signal, Some(15));
}

#[test]
fn a_signal_sent_before_the_program_runs_is_not_lost() {
    for _ in 0..20 {
        let running = GUEST.start(command(&["sleep", "1000"]));
        assert_eq!(
            GUEST.ask(&Request::Signal { process: running.call.id(), signal: 9, to: Recipients::Group }),
            Ok(Reply::Done)
        );
        assert_eq!(running.finish().unwrap().exit.signal, Some(9));
    }
}

#[test]
fn a_signal_that_makes_no_sense_is_refused() {
    let refused =
        |process, signal| GUEST.ask(&Request::Signal { process, signal, to: Recipients::Group }).unwrap_err().code;
    assert_eq!(refused(u32::MAX, 15), RefusalCode::NoSuchProcess);
    let running = GUEST.start(command(&["sleep", "1000"]));
    for signal in [0, -1, 65, i32::MIN] {
        assert_eq!(refused(running.call.id(), signal), RefusalCode::BadRequest, "{signal}");
    }
    GUEST.ask(&Request::Signal { process: running.call.id(), signal: 9, to: Recipients::Group }).unwrap();
    running.finish().unwrap();
}

#[test]
fn a_background_process_that_holds_the_output_delays_the_end_by_no_more_than_the_drain() {
    let exec = Exec { drain_ms: 50, ..shell("sleep 1000 & echo done") };
    let start = Instant::now();
    let finished = GUEST.run(exec).unwrap();
    assert_eq!((finished.stdout, finished.exit.code), (b"done\n".to_vec(), Some(0)));
    assert!(start.elapsed() < common::SOON, "it took {:?}", start.elapsed());
}

#[test]
fn what_a_background_process_writes_within_the_drain_is_kept() {
    let finished = GUEST.run(shell("{ sleep 0.2; echo late; } & echo early")).unwrap();
    assert_eq!(finished.stdout, b"early\nlate\n");
}

#[test]
fn a_daemon_outlives_the_command_that_started_it() {
    GUEST.shell("sleep 1234567 >/dev/null 2>&1 &");
    let line = GUEST.shell("ps -o args | grep -c '^sleep 1234567'");
    assert_eq!(line, "1\n");
}

#[test]
fn orphans_are_reaped() {
    GUEST.shell("for i in 1 2 3 4 5 6 7 8; do (true &) ; done");
    let zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -q '(sh) Z 1 '";
    GUEST.shell(&format!("n=0; while {zombies}; do n=$((n + 1)); [ $n -lt 1000 ] || exit 1; done"));
}

#[test]
fn two_hundred_commands_in_a_row_and_thirty_two_at_once() {
    for n in 0..200 {
        let finished = GUEST.run(command(&["echo", &n.to_string()])).unwrap();
        assert_eq!(finished.stdout, format!("{n}\n").into_bytes());
    }
    thread::scope(|scope| {
        for n in 0..32 {
            scope.spawn(move || {
                let finished = GUEST.run(shell(&format!("cat /bin/busybox >/dev/null; echo {n}; exit {n}"))).unwrap();
                assert_eq!((finished.stdout, finished.exit.code), (format!("{n}\n").into_bytes(), Some(n)));
            });
        }
    });
}
