//! `microagent --json exec`

use super::workspace::{Case, NAME, Workspace};
use serde_json::Value;

#[test]
fn json_tells_all_of_a_command() {
    Workspace::start().check(CASES);
}

fn told(box_: &Workspace, flags: &[&str], line: &str) -> Value {
    box_.json(&[&["exec", NAME], flags, &["--", "/bin/sh", "-c", line]].concat())
}

const CASES: &[Case] = &[
    ("both outputs, and how it ended", |box_| {
        let told = told(box_, &[], "echo out; echo err >&2; exit 3");
        assert_eq!(told["workspace"], NAME);
        assert_eq!((told["stdout"].as_str(), told["stderr"].as_str()), (Some("out\n"), Some("err\n")));
        assert_eq!((told["exit_code"].as_i64(), told.get("signal")), (Some(3), None));
        assert_eq!((told["timed_out"].as_bool(), told.get("stdout_truncated")), (Some(false), None));
        let time = |field: &str| told[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(time("started_at") <= time("exited_at"));
    }),
    ("a command that fails is no failure of the verb", |box_| {
        box_.microagent(["--json", "exec", NAME, "--", "false"]).expect(0);
    }),
    ("no more of an output than is wanted, and that it was more", |box_| {
        let told = told(box_, &["--stdout-limit", "5", "--stderr-limit", "3"], "echo 123456789; echo abcdef >&2");
        assert_eq!((told["stdout"].as_str(), told["stdout_truncated"].as_bool()), (Some("12345"), Some(true)));
        assert_eq!((told["stderr"].as_str(), told["stderr_truncated"].as_bool()), (Some("abc"), Some(true)));
    }),
    ("an output of exactly as much as is wanted is whole", |box_| {
        let told = told(box_, &["--stdout-limit", "4"], "echo abc");
        assert_eq!((told["stdout"].as_str(), told.get("stdout_truncated")), (Some("abc\n"), None));
    }),
    ("a limit of one output is none of the other", |box_| {
        let told = told(box_, &["--stdout-limit", "2"], "echo 12345; echo 12345 >&2");
        assert_eq!((told["stdout"].as_str(), told["stderr"].as_str()), (Some("12"), Some("12345\n")));
    }),
    ("ten mebibytes where nobody says otherwise", |box_| {
        let told = told(box_, &[], "dd if=/dev/zero bs=1M count=11 2>/dev/null | /bin/busybox tr '\\0' x");
        assert_eq!(
            (told["stdout"].as_str().unwrap().len(), told["stdout_truncated"].as_bool()),
            (10 << 20, Some(true))
        );
    }),
    ("bytes that are no text are replaced", |box_| {
        assert_eq!(told(box_, &[], "printf 'a\\377b'")["stdout"], "a\u{fffd}b");
    }),
    ("a command that cannot be run is a failure with a code", |box_| {
        for (program, code) in [("/no/such", "command_not_found"), ("/etc", "command_not_executable")] {
            let ran = box_.microagent(["--json", "exec", NAME, "--", program]).expect(1);
            assert_eq!(serde_json::from_str::<Value>(&ran.stderr).unwrap()["error"]["code"], code);
        }
    }),
    ("an id for a command that was detached", |box_| {
        let detached = box_.json(&["exec", NAME, "--detach", "--", "/bin/sh", "-c", "exit 8"]);
        let id = detached["process"].as_str().unwrap();
        assert_eq!(box_.json(&["exec", NAME, "--attach", id])["exit_code"], 8);
    }),
];
