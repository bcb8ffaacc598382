//! The exit status of `exec`.

use super::workspace::{Case, NAME, Workspace, name};
use microagent::{ExecOptions, RunIo};

#[test]
fn exec_ends_as_its_command_does() {
    Workspace::start().check(CASES);
}

const CASES: &[Case] = &[
    ("every exit code is told exactly", |box_| {
        let (client, name) = (box_.client(), name());
        for code in 0..=255 {
            let options = ExecOptions::new(["/bin/sh", "-c", &format!("exit {code}")]);
            let report = client.exec(&name, &options, RunIo::default()).unwrap();
            assert_eq!((report.status.exit_code, report.status.signal), (code, None));
        }
    }),
    ("the exit code is the command's own", |box_| {
        for code in [0, 1, 2, 42, 75, 123, 124, 125, 126, 127, 128, 129, 200, 254, 255] {
            box_.sh(&format!("exit {code}")).expect(code);
        }
    }),
    ("a command that was killed by a signal ends with 128 and its number", |box_| {
        for (signal, number) in [("HUP", 1), ("INT", 2), ("KILL", 9), ("USR1", 10), ("SEGV", 11), ("TERM", 15)] {
            box_.sh(&format!("kill -{signal} $$")).expect(128 + number);
            let told = box_.json(&["exec", NAME, "--", "/bin/sh", "-c", &format!("kill -{signal} $$")]);
            assert_eq!(
                (told["signal"].as_i64(), told["exit_code"].as_i64()),
                (Some(number.into()), Some((128 + number).into()))
            );
        }
    }),
    ("a command that is not there ends with 127 and is named", |box_| {
        let ran = box_.exec(&[], &["no-such-program"]).expect(127);
        assert!(ran.stderr.contains("`no-such-program`"), "{}", ran.stderr);
        box_.exec(&[], &["/no/such/program"]).expect(127);
    }),
    ("what cannot be executed ends with 126 and is named", |box_| {
        for path in ["/etc", "/etc/passwd"] {
            let ran = box_.exec(&[], &[path]).expect(126);
            assert!(ran.stderr.contains(path), "{}", ran.stderr);
        }
        box_.sh("head -c 100 /dev/zero > /junk; chmod +x /junk").expect(0);
        box_.exec(&[], &["/junk"]).expect(126);
    }),
    ("a script whose interpreter is not there ends with 126 or 127", |box_| {
        box_.sh("printf '#!/no/interpreter\\n' > /script; chmod +x /script").expect(0);
        let status = box_.exec(&[], &["/script"]).status;
        assert!(matches!(status, 126 | 127), "{status}");
    }),
    ("a script without an interpreter line cannot be executed", |box_| {
        box_.sh("echo exit 3 > /plain; chmod +x /plain").expect(0);
        box_.exec(&[], &["/plain"]).expect(126);
    }),
    ("a failure of microagent ends with 125 and says what", |box_| {
        for (what, arguments) in
            [("absent", ["exec", "absent", "--", "true"]), ("workspace", ["exec", "Not A Name", "--", "true"])]
        {
            let ran = box_.microagent(arguments).expect(125);
            assert!(ran.stderr.contains(what), "{}", ran.stderr);
        }
    }),
    ("no command at all is a mistake", |box_| {
        let ran = box_.microagent(["exec", NAME]).expect(125);
        assert!(ran.stderr.contains("needs a command"), "{}", ran.stderr);
    }),
];
