//! A layer that is being written.

use super::LayerId;
use super::format::{BLOCK, Content, Index, PIECE, Run, data_offset, digest};
use crate::Error;
use crate::gc::NEW_PREFIX;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tempfile::NamedTempFile;

const PIECE_BYTES: usize = (PIECE * BLOCK) as usize;
/// Pieces that wait to be written: enough for either side never to wait for a moment's delay of the other.
const WAITING: usize = 8;

/// A layer that is being written. There is no file until there is something to put into it.
pub(super) struct Draft {
    directory: PathBuf,
    index: Index,
    piece: Vec<u8>,
    writer: Option<Writer>,
}

impl Draft {
    pub(super) fn new(directory: &Path, length: u64) -> Draft {
        let index = Index { length, ..Index::default() };
        Draft { directory: directory.to_owned(), index, piece: Vec::new(), writer: None }
    }

    /// Notes that the blocks from `start` on are `bytes`.
    pub(super) fn data(&mut self, start: u64, mut bytes: &[u8]) -> Result<(), Error> {
        self.note(start, bytes.len() as u64 / BLOCK, Content::Data);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece.len()));
            self.piece.extend_from_slice(now);
            if self.piece.len() == PIECE_BYTES {
                self.flush()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Notes that `blocks` blocks from `start` on are zero.
    pub(super) fn zero(&mut self, start: u64, blocks: u64) {
        self.note(start, blocks, Content::Zero);
    }

    fn note(&mut self, start: u64, blocks: u64, content: Content) {
        let blocks = blocks as u32;
        match self.index.runs.last_mut() {
            Some(run) if run.end() == start && run.content == content && run.blocks.checked_add(blocks).is_some() => {
                run.blocks += blocks;
            }
            _ => self.index.runs.push(Run { start, blocks, content }),
        }
    }

    fn writer(&mut self) -> Result<&mut Writer, Error> {
        if self.writer.is_none() {
            self.writer = Some(Writer::start(&self.directory)?);
        }
        Ok(self.writer.as_mut().expect("it was made"))
    }

    fn flush(&mut self) -> Result<(), Error> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let writer = self.writer()?;
        // A writer that is gone has failed, and `finish` says how.
        let _ = writer.pieces.as_ref().expect("it is taken by `finish` only").send(piece);
        Ok(())
    }

    /// Puts the layer where it belongs, on the disk in full; `None` when nothing was noted.
    pub(super) fn finish(mut self) -> Result<Option<LayerId>, Error> {
        if self.index.runs.is_empty() {
            return Ok(None);
        }
        if !self.piece.is_empty() {
            self.flush()?;
        }
        let (file, pieces) = self.writer()?.finish()?;
        self.index.pieces = pieces;
        let complete = || {
            let id = self.index.write(file.as_file())?;
            file.as_file().sync_all()?;
            Ok(id)
        };
        let id = complete().map_err(Error::io("write", file.path()))?;
        let path = self.directory.join(&id.0);
        // In place of one that is there: it has the same content, or has lost it.
        file.persist(&path).map_err(|error| Error::io("make the layer", &path)(error.error))?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(Error::io("write", &path))?;
        Ok(Some(id))
    }
}

/// A file with all of the data, and the digests of the pieces.
type Written = (NamedTempFile, Vec<[u8; 32]>);

/// Digests and writes pieces while others are still being compared.
struct Writer {
    pieces: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<Written, Error>>>,
}

impl Writer {
    fn start(directory: &Path) -> Result<Writer, Error> {
        let file = tempfile::Builder::new().prefix(NEW_PREFIX).tempfile_in(directory);
        let file = file.map_err(Error::io("make a layer in", directory))?;
        let (pieces, incoming) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("layer".to_owned()).spawn(move || write(file, &incoming));
        let thread = thread.map_err(Error::io("make a thread to write a layer in", directory))?;
        Ok(Writer { pieces: Some(pieces), thread: Some(thread) })
    }

    fn finish(&mut self) -> Result<Written, Error> {
        self.pieces = None;
        let written = self.thread.take().expect("a draft is finished once").join();
        written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.pieces = None;
        // Its file goes with it: nothing of a layer that was given up stays behind.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn write(file: NamedTempFile, pieces: &Receiver<Vec<u8>>) -> Result<Written, Error> {
    let mut digests = Vec::new();
    for piece in pieces {
        digests.push(digest(&piece));
        let offset = data_offset((digests.len() as u64 - 1) * PIECE);
        file.as_file().write_all_at(&piece, offset).map_err(Error::io("write", file.path()))?;
    }
    Ok((file, digests))
}
