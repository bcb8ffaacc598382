//! What a command prints, and who reads it.

use super::workspace::{Case, Workspace, finish};
use std::io::{BufRead, BufReader, Read};

const MUCH: usize = 100 << 20;

/// What a shell that was ended by `SIGPIPE` would report.
const BROKEN_PIPE: i32 = 128 + 13;

#[test]
fn what_a_command_prints_arrives_as_it_is() {
    Workspace::start().check(CASES);
}

const CASES: &[Case] = &[
    ("the two outputs are kept apart", |box_| {
        let ran = box_.sh("echo out; echo err >&2; printf more").expect(0);
        assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("out\nmore", "err\n"));
    }),
    ("every value of a byte arrives, and nothing is added", |box_| {
        let line = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done";
        assert_eq!(box_.sh(line).expect(0).stdout, (0..=255).collect::<Vec<u8>>());
    }),
    ("nothing is nothing", |box_| {
        let ran = box_.exec(&[], &["true"]).expect(0);
        assert_eq!((ran.stdout.len(), ran.stderr.as_str()), (0, ""));
    }),
    ("a hundred mebibytes arrive", |box_| {
        let ran = box_.exec(&[], &["dd", "if=/dev/zero", "bs=1M", "count=100"]).expect(0);
        assert_eq!(ran.stdout.len(), MUCH);
        assert!(ran.stdout.iter().all(|byte| *byte == 0));
    }),
    ("both outputs at once do not hold up each other", |box_| {
        let half = "head -c 5242880 /dev/zero";
        let ran = box_.sh(&format!("{half} & {half} >&2; wait")).expect(0);
        assert_eq!((ran.stdout.len(), ran.stderr.len()), (80 << 16, 80 << 16));
    }),
    ("what a child prints after its parent has ended arrives", |box_| {
        let ran = box_.sh("(sleep 1; echo late) & exit 3").expect(3);
        assert_eq!(ran.text(), "late\n");
    }),
    ("a child that holds the output for ever does not hold up the end", |box_| {
        let ran = box_.sh("echo said; sleep 100000 & exit 4").expect(4);
        assert_eq!(ran.text(), "said\n");
    }),
    ("a daemon outlives the command that started it", |box_| {
        box_.sh("/bin/busybox mkfifo /daemon").expect(0);
        box_.sh("(/bin/busybox setsid /bin/sh -c 'read line < /daemon; echo heard $line > /daemon' &) >/dev/null 2>&1 </dev/null")
            .expect(0);
        assert_eq!(box_.sh("echo you > /daemon; cat /daemon").expect(0).text(), "heard you\n");
    }),
    ("a reader that stalls holds up nobody else, and misses nothing", |box_| {
        let mut stalled = box_.command(&[], &["dd", "if=/dev/zero", "bs=64k", "count=160"]).spawn().unwrap();
        stalled.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        for number in 0..5 {
            assert_eq!(box_.sh(&format!("echo {number}")).expect(0).text(), format!("{number}\n"));
        }
        assert_eq!(finish(stalled).expect(0).stdout.len(), (160 << 16) - 1);
    }),
    ("a reader that has seen enough ends a command that goes on printing", |box_| {
        let mut child = box_.command(&[], &["/bin/busybox", "yes", "enough"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "enough\n");
        finish(child).expect(BROKEN_PIPE);
        assert!(!box_.exec(&[], &["ps"]).expect(0).text().contains("enough"));
    }),
    ("a command without readers that prints nothing more ends as it wants", |box_| {
        let mut child = box_.command(&[], &["/bin/sh", "-c", "echo once; sleep 1; exit 5"]).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 5]).unwrap();
        finish(child).expect(5);
    }),
];
