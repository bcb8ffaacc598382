//! The image being written, front to back: small pieces gathered, large ones copied inside the kernel.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::Error;
use super::content::{Extent, read_layer};

/// Hears of progress while an image is written, with the bytes placed since the last call; `Break` stops the writing with
/// [`Error::Cancelled`].
pub type Observer<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// What writing an image came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Length of the image.
    pub bytes: u64,
    /// Files whose modification time the format could not hold exactly and which got the nearest it can. Always 0 for
    /// EROFS; ext4 holds the years 1901 to 2446.
    pub inexact_times: u64,
}

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// From this length on, a copy inside the kernel is faster than one through the buffer.
const KERNEL_COPY: u64 = 256 << 10;

/// Bytes copied between two calls of the observer.
const STRIDE: u64 = 16 << 20;

/// Block size of every filesystem written here.
const BLOCK: u64 = 4096;

pub(super) struct Output<'a> {
    file: &'a File,
    observer: &'a mut Observer<'a>,
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes.
    start: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(file: &'a File, observer: &'a mut Observer<'a>) -> Self {
        Output { file, observer, buffer: Vec::with_capacity(BUFFER), start: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.make_room(bytes.len())?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes zeroes up to `position`, which is not far ahead.
    pub(super) fn pad_to(&mut self, position: u64) -> Result<(), Error> {
        let length = position.saturating_sub(self.position()) as usize;
        self.make_room(length)?;
        self.buffer.resize(self.buffer.len() + length, 0);
        Ok(())
    }

    /// Goes on at `position`. Over a short gap zeroes are written; a long one, or one backwards, is left as it is.
    pub(super) fn move_to(&mut self, position: u64) -> Result<(), Error> {
        match position.checked_sub(self.position()) {
            Some(gap) if gap < BLOCK => self.pad_to(position),
            _ => {
                self.flush()?;
                self.start = position;
                Ok(())
            }
        }
    }

    /// Writes `length` bytes of `layer` from `source` on.
    pub(super) fn copy(&mut self, layer: &File, mut source: u64, length: u64) -> Result<(), Error> {
        let end = source + length;
        if length >= KERNEL_COPY {
            self.flush()?;
            source += self.copy_in_kernel(layer, source, length)?;
        }
        while source < end {
            let piece = (end - source).min(BUFFER as u64) as usize;
            self.make_room(piece)?;
            let filled = self.buffer.len();
            self.buffer.resize(filled + piece, 0);
            read_layer(layer, &mut self.buffer[filled..], source)?;
            source += piece as u64;
        }
        Ok(())
    }

    /// Copies as much as the kernel will and says how much that was.
    fn copy_in_kernel(&mut self, layer: &File, source: u64, length: u64) -> Result<u64, Error> {
        let mut copied = 0;
        while copied < length {
            let (mut from, mut to) = (source + copied, self.start);
            let stride = (length - copied).min(STRIDE) as usize;
            match rustix::fs::copy_file_range(layer, Some(&mut from), self.file, Some(&mut to), stride) {
                // Nothing copied: the layer has been cut short, which reading it will report. Or the two files are on
                // filesystems between which the kernel does not copy.
                Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => break,
                Ok(count) => {
                    copied += count as u64;
                    self.advance(count as u64)?;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(write_failed(errno.into())),
            }
        }
        Ok(copied)
    }

    fn make_room(&mut self, length: usize) -> Result<(), Error> {
        if self.buffer.len() + length > BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.buffer, self.start).map_err(write_failed)?;
        let length = self.buffer.len() as u64;
        self.buffer.clear();
        self.advance(length)
    }

    fn advance(&mut self, length: u64) -> Result<(), Error> {
        self.start += length;
        match (self.observer)(length) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }
}

fn write_failed(source: io::Error) -> Error {
    Error::Write { what: "the root filesystem image", source }
}

/// The blocks of a sparse file, taken in order.
pub(super) struct SparseBlocks<'c> {
    layer: &'c File,
    /// Extents that end behind the blocks already taken.
    rest: &'c [Extent],
}

impl<'c> SparseBlocks<'c> {
    pub(super) fn new(layer: &'c File, extents: &'c [Extent]) -> Self {
        SparseBlocks { layer, rest: extents }
    }

    /// Writes the blocks from `position` to `end`, both multiples of the block size; bytes in holes are zeroes.
    pub(super) fn copy(&mut self, mut position: u64, end: u64, output: &mut Output<'_>) -> Result<(), Error> {
        while position < end {
            while self.rest.first().is_some_and(|extent| extent.end() <= position) {
                self.rest = &self.rest[1..];
            }
            let whole = |extent: &&Extent| extent.start <= position && extent.end() >= position + BLOCK;
            if let Some(extent) = self.rest.first().filter(whole) {
                let length = (extent.end().min(end) - position) / BLOCK * BLOCK;
                output.copy(self.layer, extent.source + position - extent.start, length)?;
                position += length;
            } else {
                output.write(&self.block(position)?)?;
                position += BLOCK;
            }
        }
        Ok(())
    }

    /// Gathers the block at `position` from the extents that touch it.
    fn block(&self, position: u64) -> Result<[u8; BLOCK as usize], Error> {
        let mut block = [0; BLOCK as usize];
        for extent in self.rest.iter().take_while(|extent| extent.start < position + BLOCK) {
            let start = extent.start.max(position);
            let end = extent.end().min(position + BLOCK);
            if start < end {
                let target = &mut block[(start - position) as usize..(end - position) as usize];
                read_layer(self.layer, target, extent.source + start - extent.start)?;
            }
        }
        Ok(block)
    }
}
