//! The two directions of a stream.

use super::Shared;
use crate::Error;
use microagent_protocol::frame::MAX_DATA;
use microagent_protocol::{Kind, ReceiveWindow, SendWindow};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct OutputState {
    pub(super) window: ReceiveWindow,
    pub(super) chunks: VecDeque<Vec<u8>>,
    pub(super) ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct InputState {
    pub(super) window: SendWindow,
    pub(super) refused: bool,
}

/// Bytes from the guest, such as the standard output of a command. Reads 0 bytes at its end, fails with
/// [`io::ErrorKind::ConnectionAborted`] when the guest went away before it. Dropping it tells the guest to stop sending.
pub struct Output {
    shared: Arc<Shared>,
    id: u32,
    chunk: Vec<u8>,
    taken: usize,
}

impl Output {
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> Output {
        Output { shared, id, chunk: Vec::new(), taken: 0 }
    }

    /// The id that names the stream in a request.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the next chunk as it came, without copying it; `None` at the end.
    pub fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.next_chunk_until(None)
    }

    /// Waits for the next chunk, at most until `deadline`, which is [`io::ErrorKind::TimedOut`].
    pub fn next_chunk_until(&mut self, deadline: Option<Instant>) -> io::Result<Option<Vec<u8>>> {
        let (chunk, grant) = self
            .shared
            .wait_until(deadline, |state| {
                let output = state.outputs.get_mut(&self.id)?;
                match output.chunks.pop_front() {
                    Some(chunk) => {
                        let grant = output.window.consume(chunk.len());
                        Some((Some(chunk), grant))
                    }
                    None => output.ended.then_some((None, None)),
                }
            })
            .map_err(|error| match error {
                Error::DeadlinePassed => io::Error::new(io::ErrorKind::TimedOut, error),
                error => io::Error::new(io::ErrorKind::ConnectionAborted, error),
            })?;
        if let Some(bytes) = grant {
            // A guest that is gone needs no credit; the next read reports the loss.
            let _ = self.shared.send(Kind::Credit, self.id, &bytes.to_le_bytes());
        }
        Ok(chunk)
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            match self.next_chunk()? {
                Some(chunk) => (self.chunk, self.taken) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let count = (&self.chunk[self.taken..]).read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let unfinished = self.shared.lock().outputs.remove(&self.id).is_some_and(|output| !output.ended);
        if unfinished {
            let _ = self.shared.send(Kind::Reset, self.id, &[]);
        }
    }
}

/// Bytes to the guest, such as the standard input of a command. Writing blocks while the guest has granted no credit, and fails with
/// [`io::ErrorKind::BrokenPipe`] once nobody reads there. [`Input::finish`] or dropping it ends the stream.
pub struct Input {
    shared: Arc<Shared>,
    id: u32,
}

impl Input {
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> Input {
        Input { shared, id }
    }

    /// The id that names the stream in a request.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// A handle that ends the stream from any thread, also while it is being written to.
    pub fn hang_up(&self) -> HangUp {
        HangUp { shared: Arc::clone(&self.shared), id: self.id }
    }

    /// Ends the stream: the reader in the guest sees its end of file.
    pub fn finish(self) {}
}

/// Ends a stream of bytes to the other end.
pub struct HangUp {
    shared: Arc<Shared>,
    id: u32,
}

impl HangUp {
    /// Has every write to the stream fail from now on, as if its reader wanted no more, and tells the reader that it has ended.
    pub fn now(self) {
        let open = match self.shared.lock().inputs.get_mut(&self.id) {
            Some(input) => !std::mem::replace(&mut input.refused, true),
            None => false,
        };
        self.shared.changed.notify_all();
        if open {
            let _ = self.shared.send(Kind::End, self.id, &[]);
        }
    }
}

impl Write for Input {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self
            .shared
            .wait_until(None, |state| {
                let input = state.inputs.get_mut(&self.id)?;
                if input.refused {
                    return Some(None);
                }
                let count = buffer.len().min(MAX_DATA).min(input.window.available());
                (count > 0).then(|| {
                    input.window.spend(count);
                    Some(count)
                })
            })
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?
            .ok_or(io::ErrorKind::BrokenPipe)?;
        self.shared
            .send(Kind::Data, self.id, &buffer[..count])
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let open = self.shared.lock().inputs.remove(&self.id).is_some_and(|input| !input.refused);
        if open {
            let _ = self.shared.send(Kind::End, self.id, &[]);
        }
    }
}
