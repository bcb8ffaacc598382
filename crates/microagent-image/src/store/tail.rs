//! Reading a file while somebody else is still writing it.
//!
//! A layer is unpacked while it is downloaded. The file it is downloaded to is the buffer between the two: the network
//! is never held up by a slow disk or decompressor, and a resumed download starts with what the file already holds.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, PoisonError};

/// How far a file has been written, shared by its writer and its reader.
#[derive(Debug)]
pub(super) struct Tail {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct State {
    written: u64,
    end: Option<End>,
}

/// How writing came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    Abandoned,
}

impl Tail {
    /// A file that holds `written` bytes and is still growing.
    pub(super) fn new(written: u64) -> Tail {
        Tail { state: Mutex::new(State { written, end: None }), changed: Condvar::new() }
    }

    /// Announces that the file has `written` bytes now.
    pub(super) fn grow(&self, written: u64) {
        self.update(|state| state.written = written);
    }

    /// Announces that nothing more will be written.
    pub(super) fn close(&self, end: End) {
        self.update(|state| state.end = state.end.or(Some(end)));
    }

    /// Closes the file as abandoned when dropped, unless it is closed by then: a reader must not wait for ever because
    /// the writer panicked.
    pub(super) fn abandon_on_drop(&self) -> impl Drop + '_ {
        Abandon(self)
    }

    /// Reads `file` from its start, waiting at its end until it grows or is closed.
    pub(super) fn reader<'a>(&'a self, file: &'a File) -> impl Read + 'a {
        Reader { tail: self, file, position: 0 }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until there is something to read at `position`, or never will be.
    fn wait_beyond(&self, position: u64) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing_new = |state: &mut State| state.written <= position && state.end.is_none();
        *self.changed.wait_while(state, nothing_new).unwrap_or_else(PoisonError::into_inner)
    }
}

struct Abandon<'a>(&'a Tail);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.close(End::Abandoned);
    }
}

struct Reader<'a> {
    tail: &'a Tail,
    file: &'a File,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.tail.wait_beyond(self.position);
        if state.end == Some(End::Abandoned) {
            return Err(io::Error::other("the download was abandoned"));
        }
        let available = usize::try_from(state.written.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(available);
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn reader_sees_everything_written_before_and_after_it_started() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before ").unwrap();
        let tail = Tail::new(7);
        let reading = file.try_clone().unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut text = String::new();
                tail.reader(&reading).read_to_string(&mut text).map(|_| text)
            });
            file.write_all(b"after").unwrap();
            tail.grow(12);
            tail.close(End::Complete);
            assert_eq!(reader.join().unwrap().unwrap(), "before after");
        });
    }

    #[test]
    fn abandoned_file_is_an_error_and_not_an_early_end() {
        let file = tempfile::tempfile().unwrap();
        let tail = Tail::new(0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| tail.reader(&file).read(&mut [0; 8]));
            tail.close(End::Abandoned);
            assert!(reader.join().unwrap().is_err());
        });
    }

    #[test]
    fn writer_that_panics_does_not_leave_its_reader_waiting() {
        let file = tempfile::tempfile().unwrap();
        let tail = Tail::new(0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| tail.reader(&file).read(&mut [0; 8]));
            let writer = scope.spawn(|| {
                let _abandon = tail.abandon_on_drop();
                panic!("as a consumer of progress may");
            });
            assert!(writer.join().is_err());
            assert!(reader.join().unwrap().is_err());
        });
    }
}
