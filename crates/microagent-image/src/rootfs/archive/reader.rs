//! A layer read by position, with a little read-ahead for the small entries most archives are made of.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::header::BLOCK;
use crate::rootfs::Error;

/// Covers a few small files a read; more would be copied in vain past every large one.
const READ_AHEAD: usize = 16 << 10;

pub(super) struct Reader<'f> {
    file: &'f File,
    length: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl<'f> Reader<'f> {
    pub(super) fn new(file: &'f File) -> Result<Self, Error> {
        let length = file.metadata().map_err(Error::ReadLayer)?.len();
        Ok(Reader { file, length, buffer: Vec::new(), start: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Fails unless the archive reaches `end`.
    pub(super) fn expect(&self, end: u64) -> Result<(), Error> {
        if end > self.length {
            return Err(Error::TruncatedArchive { needed: end, length: self.length });
        }
        Ok(())
    }

    pub(super) fn block(&mut self, position: u64) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        let end = position.saturating_add(BLOCK as u64);
        self.expect(end)?;
        if position < self.start || end > self.start + self.buffer.len() as u64 {
            let ahead = (self.length - position).min(READ_AHEAD as u64) as usize;
            self.buffer.resize(ahead, 0);
            self.file.read_exact_at(&mut self.buffer, position).map_err(Error::ReadLayer)?;
            self.start = position;
        }
        let offset = (position - self.start) as usize;
        block.copy_from_slice(&self.buffer[offset..offset + BLOCK]);
        Ok(block)
    }

    pub(super) fn bytes(&self, position: u64, length: u64) -> Result<Vec<u8>, Error> {
        self.expect(position.saturating_add(length))?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, position).map_err(Error::ReadLayer)?;
        Ok(bytes)
    }
}
