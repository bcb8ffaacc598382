//! What a command writes, on its way to the caller and into the report.

use crate::RunIo;
use microagent_machine::channel::Output;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most bytes of each output that the report keeps. What is streamed is not bounded.
const CAPTURE_LIMIT: usize = 10 << 20;

/// The three standard streams of a run, shared by its set-up steps and its command.
pub(crate) struct Streams {
    pub(crate) stdin: Option<Box<dyn Read + Send>>,
    pub(crate) stdout: Tee,
    pub(crate) stderr: Tee,
}

impl Streams {
    pub(crate) fn new(io: RunIo) -> Streams {
        Streams { stdin: io.stdin, stdout: Tee::new(io.stdout, None), stderr: Tee::new(io.stderr, None) }
    }

    /// What was captured of standard output and standard error so far, leaving nothing.
    pub(crate) fn capture(&self) -> (Captured, Captured) {
        (self.stdout.take_captured(), self.stderr.take_captured())
    }
}

/// Copies one output to the caller's writer, and its beginning into memory.
#[derive(Clone)]
pub(crate) struct Tee {
    /// Held while the caller takes what it is given, which may be for ever.
    sink: Arc<Mutex<Option<Box<dyn Write + Send>>>>,
    captured: Arc<Mutex<Capture>>,
}

impl Tee {
    /// Copies to `sink`, if there is one, and keeps `limit` bytes, or as many as is usual.
    pub(crate) fn new(sink: Option<Box<dyn Write + Send>>, limit: Option<usize>) -> Tee {
        let capture = Capture { limit: limit.unwrap_or(CAPTURE_LIMIT), ..Capture::default() };
        Tee { sink: Arc::new(Mutex::new(sink)), captured: Arc::new(Mutex::new(capture)) }
    }

    /// Starts copying on a thread of its own, so that a caller who does not read holds up this output alone. The thread ends with the
    /// output, or when the sink fails: then the output is closed, and the command learns of it as a program in a pipeline does.
    pub(crate) fn copy(&self, mut output: Output, copying: Copying) {
        let tee = self.clone();
        std::thread::spawn(move || {
            let _copying = copying;
            while let Ok(Some(chunk)) = output.next_chunk() {
                lock(&tee.captured).add(&chunk);
                if let Some(sink) = &mut *lock(&tee.sink)
                    && sink.write_all(&chunk).and_then(|()| sink.flush()).is_err()
                {
                    return;
                }
            }
        });
    }

    /// What was kept, leaving nothing.
    pub(crate) fn take_captured(&self) -> Captured {
        std::mem::take(&mut *lock(&self.captured)).into_text()
    }
}

/// The beginning of an output, as text.
pub(crate) struct Captured {
    /// Bytes that are not UTF-8 are replaced.
    pub(crate) text: String,
    /// More came than is here.
    pub(crate) truncated: bool,
}

/// The beginning of an output, as it came.
#[derive(Debug, Default)]
struct Capture {
    limit: usize,
    bytes: Vec<u8>,
    truncated: bool,
}

impl Captured {
    /// The end of an output, which may have said more before.
    pub(crate) fn of_end(bytes: &[u8], truncated: bool) -> Captured {
        Captured { text: String::from_utf8_lossy(bytes).into_owned(), truncated }
    }
}

impl Capture {
    fn into_text(self) -> Captured {
        Captured { text: String::from_utf8_lossy(&self.bytes).into_owned(), truncated: self.truncated }
    }

    fn add(&mut self, chunk: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        self.truncated |= chunk.len() > room;
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
}

/// The copies under way. At the end of a command they are waited for, so that the caller's writers get the last of it; but no longer than
/// the run has, and not once the run is given up.
#[derive(Default)]
pub(crate) struct Copies {
    state: Mutex<CopiesState>,
    changed: Condvar,
}

#[derive(Default)]
struct CopiesState {
    under_way: usize,
    given_up: bool,
}

/// One copy under way.
pub(crate) struct Copying(Arc<Copies>);

impl Drop for Copying {
    fn drop(&mut self) {
        lock(&self.0.state).under_way -= 1;
        self.0.changed.notify_all();
    }
}

/// Why copies are not waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// The deadline passed.
    Late,
    /// The run was given up.
    GivenUp,
}

impl Copies {
    /// Counts one more.
    pub(crate) fn begin(self: &Arc<Copies>) -> Copying {
        lock(&self.state).under_way += 1;
        Copying(Arc::clone(self))
    }

    /// Lets nobody wait from now on.
    pub(crate) fn give_up(&self) {
        lock(&self.state).given_up = true;
        self.changed.notify_all();
    }

    /// Waits for all of them.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<(), Unfinished> {
        let mut state = lock(&self.state);
        loop {
            if state.under_way == 0 {
                return Ok(());
            }
            if state.given_up {
                return Err(Unfinished::GivenUp);
            }
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now()).ok_or(Unfinished::Late)?;
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_bounded_and_says_so() {
        let mut capture = Capture { limit: CAPTURE_LIMIT, ..Capture::default() };
        for _ in 0..11 {
            capture.add(&vec![b'x'; 1 << 20]);
        }
        let captured = capture.into_text();
        assert_eq!((captured.text.len(), captured.truncated), (CAPTURE_LIMIT, true));
    }

    #[test]
    fn a_writer_that_never_returns_holds_up_nobody_past_the_deadline() {
        let copies = Arc::new(Copies::default());
        let stuck = copies.begin();
        assert_eq!(copies.wait(Some(Instant::now())), Err(Unfinished::Late));
        copies.give_up();
        assert_eq!(copies.wait(None), Err(Unfinished::GivenUp));
        drop(stuck);
        assert_eq!(copies.wait(None), Ok(()));
    }
}
