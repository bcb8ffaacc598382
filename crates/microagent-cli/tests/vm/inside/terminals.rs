//! Commands with a terminal, run from a terminal.

use super::pty::Terminal;
use super::workspace::{Case, NAME, Workspace};
use crate::lifecycle::machine;

const CTRL_C: &[u8] = b"\x03";
const CTRL_D: &[u8] = b"\x04";

#[test]
fn a_command_has_a_terminal_as_if_it_ran_here() {
    Workspace::start().check(CASES);
}

/// What is printed when a process was left behind, up to its id.
fn left_running(terminal: &mut Terminal) -> String {
    terminal.wait_for("--attach ");
    terminal.wait_for("`")
}

const CASES: &[Case] = &[
    ("it is one, and as large as ours", |box_| {
        let mut terminal = Terminal::exec(box_, &["/bin/sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty size"]);
        terminal.wait_for("30 100\r\n");
        terminal.expect(0);
    }),
    ("it becomes as large as ours does", |box_| {
        let line = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done";
        let mut terminal = Terminal::exec(box_, &["/bin/sh", "-c", line]);
        terminal.wait_for("ready");
        terminal.resize(41, 123);
        terminal.wait_for("41 123\r\n");
        terminal.expect(0);
    }),
    ("a shell shows what is typed, and ends with its status", |box_| {
        let mut terminal = Terminal::exec(box_, &["/bin/sh"]);
        terminal.wait_for("# ");
        terminal.keys("echo $((6 * 7))\n");
        terminal.wait_for("echo $((6 * 7))\r\n42\r\n");
        terminal.keys("exit 7\n");
        terminal.expect(7);
    }),
    ("Ctrl-C is for the command there and not for us", |box_| {
        let mut terminal = Terminal::exec(
            box_,
            &["/bin/sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done"],
        );
        terminal.wait_for("ready");
        terminal.keys(CTRL_C);
        terminal.wait_for("caught");
        terminal.expect(3);
    }),
    ("Ctrl-D ends the input", |box_| {
        let mut terminal = Terminal::exec(box_, &["/bin/sh", "-c", "cat; echo over"]);
        terminal.keys("line\n");
        terminal.wait_for("line\r\nline\r\n");
        terminal.keys(CTRL_D);
        terminal.wait_for("over");
        terminal.expect(0);
    }),
    ("every key that is not ours passes as it is", |box_| {
        // Every byte but those that leave.
        let keys: Vec<u8> = (1..=255).filter(|key| !matches!(key, 0x10 | 0x11 | 0x1d)).collect();
        let line =
            format!("stty raw -echo; echo ready; head -c {} | /bin/busybox od -An -v -tu1; echo end", keys.len());
        let mut terminal = Terminal::exec(box_, &["/bin/sh", "-c", &line]);
        terminal.wait_for("ready");
        terminal.keys(&keys);
        let seen: Vec<u8> = terminal.wait_for("end").split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_eq!(seen, keys);
        terminal.expect(0);
    }),
    ("everything comes on standard output", |box_| {
        let told = box_.json(&["exec", NAME, "-t", "--", "/bin/sh", "-c", "echo out; echo err >&2"]);
        assert_eq!((told["stdout"].as_str(), told["stderr"].as_str()), (Some("out\r\nerr\r\n"), Some("")));
    }),
    ("without a terminal here there can be one there", |box_| {
        let ran = box_.feed(&["-i", "-t"], &["/bin/sh", "-c", "stty size; cat"], "typed\n").expect(0);
        assert!(ran.text().contains("24 80") && ran.text().contains("typed"), "{}", ran.text());
    }),
    ("Ctrl-P Ctrl-Q leaves it running, and it can be come back to", |box_| {
        let mut terminal = Terminal::exec(box_, &["/bin/sh"]);
        terminal.wait_for("# ");
        terminal.keys("kept=value\n");
        terminal.wait_for("# ");
        terminal.keys(b"\x10\x11");
        let id = left_running(&mut terminal);
        terminal.expect(0);
        let mut back = Terminal::start(box_, &["exec", NAME, "-it", "--attach", &id]);
        back.keys("echo still $kept\n");
        back.wait_for("still value\r\n");
        back.keys("exit 5\n");
        back.expect(5);
    }),
    ("Ctrl-] leaves it too, and who comes back brings their size", |box_| {
        let mut terminal = Terminal::exec(box_, &["/bin/sh"]);
        terminal.wait_for("# ");
        terminal.resize(50, 60);
        terminal.keys(b"\x1d");
        let id = left_running(&mut terminal);
        terminal.expect(0);
        let mut back = Terminal::start(box_, &["exec", NAME, "-it", "--attach", &id]);
        back.keys("stty size\n");
        back.wait_for("30 100\r\n");
        back.keys("exit\n");
        back.expect(0);
    }),
    ("Ctrl-P alone is the command's", |box_| {
        let mut terminal = Terminal::exec(
            box_,
            &["/bin/sh", "-c", "stty raw -echo; echo ready; head -c 2 | /bin/busybox od -An -tx1"],
        );
        terminal.wait_for("ready");
        terminal.keys(b"\x10a");
        terminal.wait_for("10 61");
        terminal.expect(0);
    }),
    ("what it starts in the background is hung up on", |box_| {
        let mut terminal = Terminal::exec(box_, &["/bin/sh"]);
        terminal.wait_for("# ");
        terminal.keys("sleep 40001 &\n");
        terminal.wait_for("# ");
        terminal.keys("exit\n");
        terminal.expect(0);
    }),
    ("our terminal is what it was when the command cannot be run", |box_| {
        let mut terminal = Terminal::exec(box_, &["/no/such/program"]);
        terminal.wait_for("/no/such/program");
        terminal.expect(127);
    }),
    ("`connect` is a shell, and ends with its status", |box_| {
        let mut terminal = Terminal::start(box_, &["connect", NAME]);
        terminal.wait_for("# ");
        terminal.keys("stty size; id -un\n");
        terminal.wait_for("30 100\r\nroot\r\n");
        terminal.keys("exit 12\n");
        terminal.expect(12);
    }),
    ("`connect` is left with a key", |box_| {
        let mut terminal = Terminal::start(box_, &["connect", NAME]);
        terminal.wait_for("# ");
        terminal.keys(b"\x1d");
        let id = left_running(&mut terminal);
        terminal.expect(0);
        assert!(box_.microagent(["exec", NAME, "--list"]).expect(0).text().contains("/bin/sh"), "{id}");
    }),
    ("`connect --send` prints what one line does, and ends as it does", |box_| {
        let ran = box_.microagent(["connect", NAME, "--send", "echo out; echo err >&2; exit 6"]).expect(6);
        assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
        let told = box_.json(&["connect", NAME, "--send", "echo out"]);
        assert_eq!((told["stdout"].as_str(), told["exit_code"].as_i64()), (Some("out\n"), Some(0)));
    }),
    ("`connect` without a terminal says what to do", |box_| {
        let ran = box_.microagent(["connect", NAME]).expect(125);
        assert!(ran.stderr.contains("needs a terminal") && ran.stderr.contains("--send"), "{}", ran.stderr);
    }),
];

#[test]
fn our_terminal_is_what_it_was_when_the_workspace_has_gone() {
    let workspace = Workspace::start();
    let mut terminal = Terminal::exec(&workspace, &["/bin/sh"]);
    terminal.wait_for("# ");
    workspace.microagent(["kill", NAME, "--yes", "--reason", "a test"]).expect(0);
    terminal.expect(125);
    workspace.microagent(["start", NAME]).expect(0);
    let mut terminal = Terminal::start(&workspace, &["connect", NAME]);
    terminal.wait_for("# ");
    machine::kill(machine::engine(&workspace.host, NAME));
    terminal.expect(125);
}
