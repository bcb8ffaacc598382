//! Where the bytes of an archive come from: a file, read by position, or a stream, read as it comes.

use super::header::BLOCK;
use crate::ArchiveError;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Covers a few small files a read; more would be copied in vain past every large one.
const READ_AHEAD: usize = 16 << 10;

/// What a stream is read in. Large enough that the system calls do not count.
const STREAM_BUFFER: usize = 256 << 10;

/// Bytes in order. Positions count from the beginning of the archive.
pub trait Source {
    /// Bytes taken so far.
    fn position(&self) -> u64;

    /// The next block, without taking it. `None` at the end.
    fn peek(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError>;

    /// Takes so many bytes and forgets them.
    fn skip(&mut self, length: u64) -> Result<(), ArchiveError>;

    /// Takes so many bytes, which the caller has found to be few enough to hold.
    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, ArchiveError>;

    /// Takes what is left of the block begun, or of the archive: some writers leave the padding of the last entry out.
    fn skip_padding(&mut self) -> Result<(), ArchiveError>;

    /// Fails if it is known already that the archive does not reach `end`.
    fn expect(&self, end: u64) -> Result<(), ArchiveError>;
}

/// Takes the next block, if there is one.
pub(super) fn next_block(source: &mut impl Source) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
    let block = source.peek()?;
    if block.is_some() {
        source.skip(BLOCK as u64)?;
    }
    Ok(block)
}

/// Takes the next block, which must be there.
pub(super) fn whole_block(source: &mut impl Source) -> Result<[u8; BLOCK], ArchiveError> {
    let length = source.position();
    next_block(source)?.ok_or(ArchiveError::Truncated { needed: length + BLOCK as u64, length })
}

/// An archive in a file, of which only headers are read.
pub struct FileSource<'f> {
    file: &'f File,
    length: u64,
    position: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl<'f> FileSource<'f> {
    /// Reads from the beginning of `file`.
    pub fn new(file: &'f File) -> Result<Self, ArchiveError> {
        let length = file.metadata().map_err(ArchiveError::Read)?.len();
        Ok(FileSource { file, length, position: 0, buffer: Vec::new(), start: 0 })
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Source for FileSource<'_> {
    fn position(&self) -> u64 {
        self.position
    }

    fn peek(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        if self.position == self.length {
            return Ok(None);
        }
        let end = self.position.saturating_add(BLOCK as u64);
        self.expect(end)?;
        if self.position < self.start || end > self.start + self.buffer.len() as u64 {
            let ahead = (self.length - self.position).min(READ_AHEAD as u64) as usize;
            self.buffer.resize(ahead, 0);
            self.file.read_exact_at(&mut self.buffer, self.position).map_err(ArchiveError::Read)?;
            self.start = self.position;
        }
        let offset = (self.position - self.start) as usize;
        let mut block = [0; BLOCK];
        block.copy_from_slice(&self.buffer[offset..offset + BLOCK]);
        Ok(Some(block))
    }

    fn skip(&mut self, length: u64) -> Result<(), ArchiveError> {
        let end = self.position.saturating_add(length);
        self.expect(end)?;
        self.position = end;
        Ok(())
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, ArchiveError> {
        let start = self.position;
        self.skip(length)?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(ArchiveError::Read)?;
        Ok(bytes)
    }

    fn skip_padding(&mut self) -> Result<(), ArchiveError> {
        self.position = self.position.next_multiple_of(BLOCK as u64).min(self.length);
        Ok(())
    }

    fn expect(&self, end: u64) -> Result<(), ArchiveError> {
        if end > self.length {
            return Err(ArchiveError::Truncated { needed: end, length: self.length });
        }
        Ok(())
    }
}

/// An archive that arrives.
pub struct StreamSource<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    position: u64,
}

impl<R: Read> StreamSource<R> {
    /// Reads what `input` has, ahead of what is asked for.
    pub fn new(input: R) -> Self {
        StreamSource { input, buffer: vec![0; STREAM_BUFFER].into(), start: 0, end: 0, position: 0 }
    }

    /// Takes at most `most` bytes as they lie in the buffer. None at the end.
    pub(crate) fn chunk(&mut self, most: u64) -> Result<&[u8], ArchiveError> {
        if self.start == self.end {
            self.fill(1)?;
        }
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.end - self.start);
        let from = self.start;
        self.start += count;
        self.position += count as u64;
        Ok(&self.buffer[from..from + count])
    }

    /// The same, where the end is too early.
    pub(crate) fn some(&mut self, most: u64) -> Result<&[u8], ArchiveError> {
        let length = self.position;
        match self.chunk(most)? {
            [] => Err(ArchiveError::Truncated { needed: length.saturating_add(most), length }),
            bytes => Ok(bytes),
        }
    }

    /// Has at least `least` bytes in the buffer, or all that are left. At most a block.
    fn fill(&mut self, least: usize) -> Result<(), ArchiveError> {
        if self.end - self.start >= least {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < least {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveError::Read(error)),
            }
        }
        Ok(())
    }
}

impl<R: Read> Source for StreamSource<R> {
    fn position(&self) -> u64 {
        self.position
    }

    fn peek(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        self.fill(BLOCK)?;
        let length = (self.end - self.start) as u64;
        match self.buffer[self.start..self.end].first_chunk() {
            Some(block) => Ok(Some(*block)),
            None if length == 0 => Ok(None),
            None => {
                Err(ArchiveError::Truncated { needed: self.position + BLOCK as u64, length: self.position + length })
            }
        }
    }

    fn skip(&mut self, mut length: u64) -> Result<(), ArchiveError> {
        while length > 0 {
            length -= self.some(length)?.len() as u64;
        }
        Ok(())
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::with_capacity(length as usize);
        while (bytes.len() as u64) < length {
            bytes.extend_from_slice(self.some(length - bytes.len() as u64)?);
        }
        Ok(bytes)
    }

    fn skip_padding(&mut self) -> Result<(), ArchiveError> {
        let mut padding = self.position.next_multiple_of(BLOCK as u64) - self.position;
        while padding > 0 {
            match self.chunk(padding)?.len() {
                0 => break,
                count => padding -= count as u64,
            }
        }
        Ok(())
    }

    fn expect(&self, _end: u64) -> Result<(), ArchiveError> {
        Ok(())
    }
}
