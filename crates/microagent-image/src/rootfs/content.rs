//! Where the bytes of a regular file are: in one layer, in one piece or in pieces with holes between.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Error;

/// A piece of a sparse file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it belongs in the file.
    pub(super) start: u64,
    pub(super) length: u64,
    /// Where it is in the layer.
    pub(super) source: u64,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// The data of a regular file, as positions in its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Every byte, from this position on.
    Dense { source: u64 },
    /// The pieces that are not holes: in order, not touching, not empty, inside the file.
    Sparse(Box<[Extent]>),
}

impl Content {
    /// Memory its map takes.
    pub(super) fn map_bytes(&self) -> usize {
        match self {
            Content::Dense { .. } => 0,
            Content::Sparse(extents) => size_of_val(&**extents),
        }
    }
}

/// Fills `buffer` from `position` of a layer, which must still hold what it held when it was read.
pub(super) fn read_layer(layer: &File, buffer: &mut [u8], position: u64) -> Result<(), Error> {
    layer.read_exact_at(buffer, position).map_err(Error::ReadLayer)
}

/// A regular file's bytes in order, holes as zeroes.
pub(super) struct ContentReader<'a> {
    layer: &'a File,
    content: &'a Content,
    size: u64,
    position: u64,
    next_extent: usize,
}

impl<'a> ContentReader<'a> {
    pub(super) fn new(layer: &'a File, content: &'a Content, size: u64) -> Self {
        ContentReader { layer, content, size, position: 0, next_extent: 0 }
    }

    /// The stretch at the current position: its source, or `None` in a hole, and its length.
    fn stretch(&mut self) -> (Option<u64>, u64) {
        let extents = match self.content {
            Content::Dense { source } => return (Some(source + self.position), self.size - self.position),
            Content::Sparse(extents) => extents,
        };
        while extents.get(self.next_extent).is_some_and(|extent| extent.end() <= self.position) {
            self.next_extent += 1;
        }
        match extents.get(self.next_extent) {
            Some(extent) if extent.start <= self.position => {
                (Some(extent.source + self.position - extent.start), extent.end() - self.position)
            }
            Some(extent) => (None, extent.start - self.position),
            None => (None, self.size - self.position),
        }
    }
}

impl io::Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (source, available) = self.stretch();
        let length = available.min(buffer.len() as u64) as usize;
        match source {
            Some(source) => self.layer.read_exact_at(&mut buffer[..length], source)?,
            None => buffer[..length].fill(0),
        }
        self.position += length as u64;
        Ok(length)
    }
}
