//! What a command writes, on its way to the caller and into the report.

use crate::RunIo;
use microagent_machine::channel::Output;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Most bytes of each output that the report keeps. What is streamed is not bounded.
const CAPTURE_LIMIT: usize = 10 << 20;

/// The three standard streams of a run, shared by its set-up steps and its command.
pub(super) struct Streams {
    pub(super) stdin: Option<Box<dyn Read + Send>>,
    pub(super) stdout: Tee,
    pub(super) stderr: Tee,
}

impl Streams {
    pub(super) fn new(io: RunIo) -> Streams {
        Streams { stdin: io.stdin, stdout: Tee::new(io.stdout), stderr: Tee::new(io.stderr) }
    }

    /// What was captured of standard output and standard error so far, leaving nothing.
    pub(super) fn capture(&self) -> (Captured, Captured) {
        (self.stdout.take_captured(), self.stderr.take_captured())
    }
}

/// Copies one output to the caller's writer, and its beginning into memory.
#[derive(Clone)]
pub(super) struct Tee {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    sink: Option<Box<dyn Write + Send>>,
    captured: Capture,
}

/// The beginning of an output, as text.
pub(super) struct Captured {
    /// Bytes that are not UTF-8 are replaced.
    pub(super) text: String,
    /// More came than is here.
    pub(super) truncated: bool,
}

/// The beginning of an output, as it came.
#[derive(Debug, Default)]
struct Capture {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Capture {
    fn into_text(self) -> Captured {
        Captured { text: String::from_utf8_lossy(&self.bytes).into_owned(), truncated: self.truncated }
    }

    fn add(&mut self, chunk: &[u8]) {
        let room = CAPTURE_LIMIT - self.bytes.len();
        self.truncated |= chunk.len() > room;
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
}

impl Tee {
    fn new(sink: Option<Box<dyn Write + Send>>) -> Tee {
        Tee { shared: Arc::new(Mutex::new(Shared { sink, captured: Capture::default() })) }
    }

    /// Starts copying on a thread of its own, so that a caller who does not read holds up this output alone. The thread ends with the
    /// output, or when the sink fails: then the output is closed, and the command learns of it as a program in a pipeline does.
    pub(super) fn copy(&self, mut output: Output) -> JoinHandle<()> {
        let tee = self.clone();
        std::thread::spawn(move || {
            while let Ok(Some(chunk)) = output.next_chunk() {
                let mut shared = tee.shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.captured.add(&chunk);
                if let Some(sink) = &mut shared.sink
                    && sink.write_all(&chunk).and_then(|()| sink.flush()).is_err()
                {
                    return;
                }
            }
        })
    }

    fn take_captured(&self) -> Captured {
        std::mem::take(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).captured).into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_bounded_and_says_so() {
        let mut capture = Capture::default();
        for _ in 0..11 {
            capture.add(&vec![b'x'; 1 << 20]);
        }
        let captured = capture.into_text();
        assert_eq!((captured.text.len(), captured.truncated), (CAPTURE_LIMIT, true));
    }
}
