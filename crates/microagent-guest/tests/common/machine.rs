//! A machine whose host speaks frames by hand.

use super::{Engine, SOON, boot_request, now_ns, shell, workspace_disk};
use microagent_protocol::frame::header;
use microagent_protocol::{Boot, Decoder, Exec, Frame, Hello, Kind, RefusalCode, Reply, Request, Wake};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use tempfile::TempDir;

pub(crate) struct Machine {
    engine: Engine,
    pub(crate) stream: UnixStream,
    decoder: Decoder,
    _directory: TempDir,
}

impl Machine {
    /// A machine that has said hello.
    pub(crate) fn greet() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let (engine, stream) = Engine::start(&workspace_disk(directory.path()));
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut machine = Machine { engine, stream, decoder: Decoder::default(), _directory: directory };
        let hello = machine.receive();
        assert_eq!((hello.kind, hello.id), (Kind::Hello, 0));
        serde_json::from_slice::<Hello>(&hello.payload).unwrap();
        machine
    }

    /// A machine without the port.
    pub(crate) fn start_with_port(port: &str) -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let (engine, stream) = Engine::start_with_port(&workspace_disk(directory.path()), port);
        Machine { engine, stream, decoder: Decoder::default(), _directory: directory }
    }

    /// A machine with a workspace.
    pub(crate) fn boot() -> Machine {
        Machine::boot_with(boot_request())
    }

    /// A machine with this workspace.
    pub(crate) fn boot_with(boot: Boot) -> Machine {
        let mut machine = Machine::greet();
        machine.call(1, &Request::Boot(boot));
        assert!(matches!(machine.reply(1), Reply::Booted { .. }));
        machine
    }

    pub(crate) fn send(&mut self, kind: Kind, id: u32, payload: &[u8]) {
        let mut wire = header(kind, id, payload.len()).to_vec();
        wire.extend_from_slice(payload);
        self.stream.write_all(&wire).unwrap();
    }

    pub(crate) fn call(&mut self, id: u32, request: &Request) {
        self.send(Kind::Call, id, &serde_json::to_vec(request).unwrap());
    }

    pub(crate) fn receive(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let mut buffer = vec![0; 1 << 16];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the machine is gone; its console: {}", self.engine.console());
            self.decoder.extend(&buffer[..count]);
        }
    }

    /// The reply to call `id`; other frames before it are dropped.
    pub(crate) fn reply(&mut self, id: u32) -> Reply {
        loop {
            let frame = self.receive();
            if (frame.kind, frame.id) == (Kind::Reply, id) {
                return serde_json::from_slice(&frame.payload).unwrap();
            }
        }
    }

    pub(crate) fn refusal(&mut self, id: u32) -> RefusalCode {
        match self.reply(id) {
            Reply::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    /// All that comes on a stream; other frames are dropped.
    pub(crate) fn said(&mut self, stream: u32) -> String {
        let mut bytes = Vec::new();
        loop {
            let frame = self.receive();
            match frame.kind {
                Kind::Data if frame.id == stream => bytes.extend(frame.payload),
                Kind::End if frame.id == stream => return String::from_utf8(bytes).unwrap(),
                _ => {}
            }
        }
    }

    /// Waits until the machine has ended itself and checks that it said why.
    pub(crate) fn ends_saying(mut self, why: &str) {
        self.engine.ended();
        let console = self.engine.console();
        let said = console.lines().any(|line| line.contains("microagent-guest: ") && line.contains(why));
        assert!(said, "{why:?} is not on the console: {console}");
    }
}

/// A shell script, with streams for its input, output and errors.
pub(crate) fn exec(script: &str, streams: [u32; 3]) -> Request {
    let [stdin, stdout, stderr] = streams;
    Request::Exec(Exec { stdin: Some(stdin), stdout, stderr, ..shell(script) })
}

/// What a copy with no commands of its own is told.
pub(crate) fn wake() -> Wake {
    Wake {
        epoch_ns: now_ns(),
        entropy: (64..128).collect(),
        hostname: "copy".to_owned(),
        machine_id: "fedcba9876543210fedcba9876543210".to_owned(),
        boot_id: "0e2c9f6a-1b7d-4c3e-9a55-7d0f4b8c2e11".to_owned(),
        adopt: Vec::new(),
    }
}
