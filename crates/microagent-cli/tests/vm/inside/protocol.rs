//! The supervisor's protocol, spoken by strangers: a program in another language, and clients that do not keep to it.

use super::workspace::{Case, LIMIT, NAME, Workspace, finish};
use crate::host::Running;
use microagent_testing::tool;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

const HELLO: u8 = 1;
const CALL: u8 = 2;
const REPLY: u8 = 3;
const DATA: u8 = 4;
const END: u8 = 5;
const CREDIT: u8 = 6;
const RESET: u8 = 7;

/// A client without manners.
struct Raw(UnixStream);

impl Raw {
    fn connect(workspace: &Workspace) -> Raw {
        let stream =
            UnixStream::connect(workspace.host.state().join("workspaces").join(NAME).join("supervisor.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let mut raw = Raw(stream);
        let (kind, id, greeting) = raw.receive().unwrap();
        assert_eq!((kind, id), (HELLO, 0));
        let greeting: Value = serde_json::from_slice(&greeting).unwrap();
        assert_eq!((greeting["protocol"].as_u64(), greeting["workspace"].as_str()), (Some(1), Some(NAME)));
        raw
    }

    fn send(&mut self, kind: u8, id: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.extend(id.to_le_bytes());
        frame.extend([kind, 0, 0, 0]);
        frame.extend(payload);
        self.bytes(&frame);
    }

    /// Sends what need not be a frame. One who does not listen any more is seen when something is received.
    fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    fn receive(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut header = [0; 12];
        match self.0.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("the supervisor is silent: {error}"),
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(0) as usize];
        self.0.read_exact(&mut payload).unwrap();
        Some((header[8], word(4), payload))
    }

    /// Asks, and returns the answer; other frames are passed over.
    fn ask(&mut self, id: u32, call: &Value) -> Value {
        self.send(CALL, id, call.to_string().as_bytes());
        self.reply(id)
    }

    fn reply(&mut self, id: u32) -> Value {
        loop {
            let (kind, of, payload) = self.receive().expect("an answer, and not the end");
            if (kind, of) == (REPLY, id) {
                return serde_json::from_slice(&payload).unwrap();
            }
        }
    }

    /// Fails unless the other end has hung up.
    #[track_caller]
    fn assert_disconnected(mut self) {
        while self.receive().is_some() {}
    }

    /// Fails unless the conversation goes on.
    #[track_caller]
    fn assert_goes_on(&mut self, id: u32) {
        assert_eq!(self.ask(id, &json!({"verb": "status"}))["state"], "running");
    }
}

#[track_caller]
fn assert_failed(answer: &Value, code: &str) {
    assert_eq!((answer["answer"].as_str(), answer["code"].as_str()), (Some("failed"), Some(code)), "{answer}");
}

#[test]
fn a_client_that_breaks_the_rules_harms_nobody_else() {
    let workspace = Workspace::start();
    let mut bystander =
        workspace.command(&["-i"], &["/bin/sh", "-c", "echo here; cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = bystander.stdin.take().unwrap();
    workspace.check(ABUSES);
    stdin.write_all(b"still here\n").unwrap();
    drop(stdin);
    assert_eq!(finish(bystander).expect(0).text(), "here\nstill here\n");
}

const ABUSES: &[Case] = &[
    ("a header that is none ends the conversation", |box_| {
        for header in [
            &[0xff; 12][..],
            &[0, 0, 0, 0, 1, 0, 0, 0, 99, 0, 0, 0],
            &[0, 0, 0, 0, 1, 0, 0, 0, CALL, 0, 0, 1],
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let mut raw = Raw::connect(box_);
            raw.bytes(header);
            raw.assert_disconnected();
        }
    }),
    ("frames that only a supervisor sends end the conversation", |box_| {
        for kind in [HELLO, REPLY] {
            let mut raw = Raw::connect(box_);
            raw.send(kind, 0, b"{}");
            raw.assert_disconnected();
        }
    }),
    ("a call of more than four mebibytes ends the conversation", |box_| {
        let mut raw = Raw::connect(box_);
        raw.send(CALL, 1, &vec![b' '; 5 << 20]);
        raw.assert_disconnected();
    }),
    ("a piece of a stream that is too large ends the conversation", |box_| {
        let mut raw = Raw::connect(box_);
        raw.send(DATA, 1, &vec![0; (64 << 10) + 1]);
        raw.assert_disconnected();
    }),
    ("more of a stream than was granted ends the conversation, and what was started on it", |box_| {
        let mut raw = Raw::connect(box_);
        let started = raw.ask(1, &json!({"verb": "exec", "argv": ["sleep", "50001"], "stdin": 2}));
        assert_eq!(started["answer"], "started");
        // The supervisor, the guest and the command's pipe each take some, and the command none.
        for _ in 0..64 {
            raw.send(DATA, 2, &vec![0; 64 << 10]);
        }
        raw.assert_disconnected();
        box_.sh("while ps | grep -v grep | grep -q 50001; do sleep 0.05; done").expect(0);
    }),
    ("a verb that is not known is refused, and the conversation goes on", |box_| {
        let mut raw = Raw::connect(box_);
        assert_failed(&raw.ask(1, &json!({"verb": "dance"})), "bad_request");
        raw.assert_goes_on(2);
    }),
    ("a field that is not known is refused", |box_| {
        let mut raw = Raw::connect(box_);
        assert_failed(&raw.ask(1, &json!({"verb": "exec", "argv": ["true"], "color": "red"})), "bad_request");
        assert_failed(&raw.ask(2, &json!({"verb": "stat", "path": "/", "color": "red"})), "bad_request");
        raw.assert_goes_on(3);
    }),
    ("a call that is no JSON, or another kind of it, is refused", |box_| {
        let mut raw = Raw::connect(box_);
        let deep = "[".repeat(100_000);
        for (id, call) in (1..).zip([
            &b""[..],
            b"{",
            b"null",
            b"[]",
            b"\"exec\"",
            b"\xff\xfe",
            deep.as_bytes(),
            br#"{"verb":"exec","argv":"true"}"#,
        ]) {
            raw.send(CALL, id, call);
            assert_failed(&raw.reply(id), "bad_request");
        }
        raw.assert_goes_on(100);
    }),
    ("no command, and one that cannot be, is refused", |box_| {
        let mut raw = Raw::connect(box_);
        for (id, argv) in (1..).zip([json!([]), json!(["a\0b"])]) {
            assert_eq!(raw.ask(id, &json!({"verb": "exec", "argv": argv}))["answer"], "failed");
        }
        raw.assert_goes_on(100);
    }),
    ("a stream that is named twice is refused", |box_| {
        let mut raw = Raw::connect(box_);
        let twice = raw.ask(1, &json!({"verb": "exec", "argv": ["true"], "stdout": 7, "stderr": 7}));
        assert_eq!(twice["answer"], "failed");
        let started = raw.ask(2, &json!({"verb": "exec", "argv": ["sleep", "50002"], "stdout": 8, "stderr": 9}));
        assert_eq!(started["answer"], "started");
        assert_eq!(raw.ask(3, &json!({"verb": "pack", "path": "/etc", "name": ".", "output": 8}))["answer"], "failed");
        raw.assert_goes_on(4);
    }),
    ("what is for no stream is dropped", |box_| {
        let mut raw = Raw::connect(box_);
        raw.send(DATA, 77, b"for nobody");
        raw.send(END, 77, b"");
        raw.send(CREDIT, 77, &u32::MAX.to_le_bytes());
        raw.send(RESET, 77, b"");
        raw.assert_goes_on(1);
    }),
    ("credit without bound is no way to anything", |box_| {
        let mut raw = Raw::connect(box_);
        raw.ask(1, &json!({"verb": "exec", "argv": ["true"], "stdout": 2, "stderr": 3}));
        for _ in 0..1000 {
            raw.send(CREDIT, 2, &u32::MAX.to_le_bytes());
        }
        raw.assert_goes_on(4);
    }),
    ("a process that is not there is refused, whatever is asked of it", |box_| {
        let mut raw = Raw::connect(box_);
        for (id, call) in (1..).zip([
            json!({"verb": "await", "process": "12345"}),
            json!({"verb": "signal", "process": "12345", "signal": 9}),
            json!({"verb": "detach", "process": ""}),
            json!({"verb": "resize", "process": "x", "size": {"rows": 1, "columns": 1}}),
        ]) {
            assert_eq!(raw.ask(id, &call)["answer"], "failed", "{call}");
        }
        raw.assert_goes_on(100);
    }),
    ("signals that do not exist are refused", |box_| {
        let mut raw = Raw::connect(box_);
        let process = raw.ask(1, &json!({"verb": "exec", "argv": ["sleep", "50003"]}))["process"].clone();
        for (id, signal) in (2..).zip([-1, 0x7fff_ffff, 65]) {
            assert_eq!(
                raw.ask(id, &json!({"verb": "signal", "process": process, "signal": signal}))["answer"],
                "failed",
                "{signal}"
            );
        }
        raw.assert_goes_on(100);
    }),
    ("a refused call ends its streams", |box_| {
        let mut raw = Raw::connect(box_);
        raw.send(
            CALL,
            1,
            json!({"verb": "pack", "path": "/not/there", "name": ".", "output": 2}).to_string().as_bytes(),
        );
        let (mut replied, mut ended) = (false, false);
        while !(replied && ended) {
            let (kind, id, _) = raw.receive().unwrap();
            replied |= (kind, id) == (REPLY, 1);
            ended |= (kind, id) == (END, 2);
        }
    }),
    ("who leaves in the middle of a frame is gone", |box_| {
        for bytes in [&[0, 1, 0][..], &[0, 1, 0, 0, 1, 0, 0, 0, CALL, 0, 0, 0, b'{']] {
            let mut raw = Raw::connect(box_);
            raw.bytes(bytes);
        }
        let raw = Raw::connect(box_);
        raw.0.shutdown(Shutdown::Write).unwrap();
        raw.assert_disconnected();
    }),
    ("many who say nothing hold up nobody", |box_| {
        let idle: Vec<Raw> = (0..100).map(|_| Raw::connect(box_)).collect();
        box_.sh("true").expect(0);
        drop(idle);
    }),
    ("many calls at once are all answered", |box_| {
        let mut raw = Raw::connect(box_);
        for id in 1..=200 {
            raw.send(CALL, id, json!({"verb": "stat", "path": "/etc/passwd"}).to_string().as_bytes());
        }
        let mut answered: Vec<u32> = (0..200).map(|_| raw.receive().unwrap().1).collect();
        answered.sort_unstable();
        assert_eq!(answered, (1..=200).collect::<Vec<_>>());
    }),
];

#[test]
fn the_example_client_of_the_documentation_does_as_it_says() {
    let workspace = Workspace::start();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/supervisor_client.py");
    let run = |argv: &[&str]| {
        let mut python = tool("python3");
        python.arg(&example).arg(workspace.host.state()).arg(NAME).args(argv);
        finish(python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let ran = run(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]).expect(3);
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    run(&["/bin/sh", "-c", "kill -9 $$"]).expect(137);
    let much = run(&["head", "-c", "10000000", "/dev/zero"]).expect(0);
    assert_eq!(much.stdout.len(), 10_000_000);
    let missing = run(&["/no/such/program"]).expect(1);
    assert!(missing.stderr.contains("/no/such/program"), "{}", missing.stderr);
    let held = Running::start(workspace.command(&[], &["/bin/sh", "-c", "echo up; exec sleep 50004"]), "up");
    run(&["true"]).expect(0);
    drop(held);
}
