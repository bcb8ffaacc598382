//! Standard input of a command.

use super::workspace::{Case, Workspace, finish};
use std::io::{Read, Write};
use std::process::Stdio;

/// As much as does not fit any buffer on the way.
const MUCH: usize = 100 << 20;

#[test]
fn a_command_reads_what_it_is_given_and_no_more() {
    Workspace::start().check(CASES);
}

/// Bytes that differ from place to place, so that a piece that is lost or doubled is seen.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(next).collect()
}

const CASES: &[Case] = &[
    ("without a word about it there is none", |box_| {
        assert_eq!(box_.feed(&[], &["cat"], "not for the guest").expect(0).stdout, b"");
    }),
    ("an empty one ends at once", |box_| {
        assert_eq!(box_.feed(&["-i"], &["cat"], "").expect(0).stdout, b"");
    }),
    ("one byte is one byte", |box_| {
        assert_eq!(box_.feed(&["-i"], &["cat"], [0]).expect(0).stdout, [0]);
    }),
    ("one that is closed here is empty there", |box_| {
        let program = box_.command(&["-i"], &["cat"]);
        let line: Vec<_> = program.get_args().collect();
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", r#"exec "$@" <&-"#, "sh"]).arg(program.get_program()).args(line);
        let ran = finish(shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(ran.expect(0).stdout, b"");
    }),
    ("one that is open and never written to holds up nobody", |box_| {
        let mut child = box_.command(&["-i"], &["echo", "done"]).stdin(Stdio::piped()).spawn().unwrap();
        let open = child.stdin.take();
        assert_eq!(finish(child).expect(0).text(), "done\n");
        drop(open);
    }),
    ("it ends when it ends here and not before", |box_| {
        let mut child = box_.command(&["-i"], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.as_mut().unwrap());
        for line in [b"first\n", b"again\n"] {
            stdin.write_all(line).unwrap();
            let mut answer = [0; 6];
            stdout.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, line);
        }
        drop(stdin);
        finish(child).expect(0);
    }),
    ("every value of a byte passes", |box_| {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(box_.feed(&["-i"], &["cat"], all.clone()).expect(0).stdout, all);
    }),
    ("a hundred mebibytes come back as they went", |box_| {
        let much = bytes(MUCH);
        let back = box_.feed(&["-i"], &["cat"], much.clone()).expect(0).stdout;
        assert_eq!(back.len(), much.len());
        assert!(back == much, "the bytes differ");
    }),
    ("a command that ignores it ends as it wants", |box_| {
        box_.feed(&["-i"], &["/bin/sh", "-c", "exit 9"], bytes(8 << 20)).expect(9);
    }),
    ("a command that closes it early is no failure", |box_| {
        assert_eq!(box_.feed(&["-i"], &["head", "-c", "3"], bytes(8 << 20)).expect(0).stdout.len(), 3);
        let line = "exec <&-; echo closed";
        assert_eq!(box_.feed(&["-i"], &["/bin/sh", "-c", line], bytes(8 << 20)).expect(0).text(), "closed\n");
    }),
    ("a file is passed with its name", |box_| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes(1 << 20)).unwrap();
        let ran = box_.exec(&["--stdin", file.path().to_str().unwrap()], &["cat"]).expect(0);
        assert!(ran.stdout == bytes(1 << 20));
    }),
    ("a dash is our own", |box_| {
        assert_eq!(box_.feed(&["--stdin", "-"], &["cat"], "piped").expect(0).text(), "piped");
    }),
    ("a file that is not there is an error that names it", |box_| {
        let ran = box_.exec(&["--stdin", "/no/such/file"], &["cat"]).expect(125);
        assert!(ran.stderr.contains("/no/such/file"), "{}", ran.stderr);
    }),
];
