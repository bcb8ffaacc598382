//! Sparse files: four ways to write a map, one way to check it.

use super::content::{Content, Extent};
use super::header::{BLOCK, gnu_sparse_extension, number};
use super::pax::decimal;
use super::source::{Source, whole_block};
use crate::ArchiveError;
use crate::limits::check;

pub(super) const MALFORMED: &str = "its sparse map is malformed";

/// Offsets and lengths of the pieces with data, as an archive states them, and where the data begins.
pub(crate) struct Map {
    pub(crate) pieces: Vec<(u64, u64)>,
    pub(crate) data: u64,
}

/// The most pieces a map may have. Real ones are bounded by how a disk fragments; the memory for this many is 24 MiB.
const PIECES: u64 = 1 << 20;

fn check_pieces(count: usize) -> Result<(), ArchiveError> {
    check("sparse map pieces", count as u64, PIECES)
}

/// The old GNU format: four pieces in the header, more in extension blocks before the data.
pub(crate) fn read_gnu(source: &mut impl Source, path: &[u8], first: (&[u8], bool)) -> Result<Map, ArchiveError> {
    let malformed = || ArchiveError::entry(path, MALFORMED);
    let mut pieces = Vec::new();
    let (map, mut extended) = first;
    push_gnu(map, &mut pieces).ok_or_else(malformed)?;
    while extended {
        let block = whole_block(source)?;
        let (map, more) = gnu_sparse_extension(&block);
        push_gnu(map, &mut pieces).ok_or_else(malformed)?;
        check_pieces(pieces.len())?;
        extended = more;
    }
    Ok(Map { pieces, data: source.position() })
}

/// Two 12-byte numbers a piece; a piece whose first byte is NUL ends the map.
fn push_gnu(map: &[u8], pieces: &mut Vec<(u64, u64)>) -> Option<()> {
    for piece in map.chunks_exact(24).take_while(|piece| piece[0] != 0) {
        let offset = u64::try_from(number(&piece[..12])?).ok()?;
        let length = u64::try_from(number(&piece[12..])?).ok()?;
        pieces.push((offset, length));
    }
    Some(())
}

/// Pax formats 0.0 and 0.1: the numbers were in the extended header.
pub(crate) fn from_pax(path: &[u8], numbers: &[u64], data: u64) -> Result<Map, ArchiveError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ArchiveError::entry(path, MALFORMED));
    }
    check_pieces(pairs.len())?;
    Ok(Map { pieces: pairs.iter().map(|[offset, length]| (*offset, *length)).collect(), data })
}

/// Pax format 1.0: decimal lines in front of the data, padded to a block; the first says how many pieces follow.
pub(crate) fn read_from_data(source: &mut impl Source, path: &[u8], end: u64) -> Result<Map, ArchiveError> {
    let mut lines = Lines { source, path, end, block: [0; BLOCK], used: BLOCK };
    let count = lines.number()?;
    check("sparse map pieces", count, PIECES)?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push((lines.number()?, lines.number()?));
    }
    Ok(Map { pieces, data: source.position() })
}

struct Lines<'r, S> {
    source: &'r mut S,
    path: &'r [u8],
    end: u64,
    block: [u8; BLOCK],
    used: usize,
}

impl<S: Source> Lines<'_, S> {
    fn number(&mut self) -> Result<u64, ArchiveError> {
        const DIGITS: usize = 20;
        let mut text = Vec::with_capacity(DIGITS);
        loop {
            match self.byte()? {
                b'\n' => break,
                digit if text.len() < DIGITS => text.push(digit),
                _ => return Err(ArchiveError::entry(self.path, MALFORMED)),
            }
        }
        decimal(&text).ok_or_else(|| ArchiveError::entry(self.path, MALFORMED))
    }

    fn byte(&mut self) -> Result<u8, ArchiveError> {
        if self.used == BLOCK {
            if self.source.position() >= self.end {
                return Err(ArchiveError::entry(self.path, MALFORMED));
            }
            self.block = whole_block(self.source)?;
            self.used = 0;
        }
        self.used += 1;
        Ok(self.block[self.used - 1])
    }
}

impl Map {
    /// Checks the map against the file's size and the bytes the archive holds for it (up to `end`), and turns it into
    /// positions in the layer.
    pub(crate) fn into_content(self, path: &[u8], size: u64, end: u64) -> Result<Content, ArchiveError> {
        self.extents(size, end).ok_or_else(|| ArchiveError::entry(path, MALFORMED))
    }

    fn extents(self, size: u64, end: u64) -> Option<Content> {
        let mut extents: Vec<Extent> = Vec::new();
        let (mut source, mut reached) = (self.data, 0);
        for (start, length) in self.pieces {
            let piece_end = start.checked_add(length).filter(|piece_end| *piece_end <= size)?;
            if start < reached {
                return None;
            }
            match extents.last_mut() {
                _ if length == 0 => {}
                Some(last) if last.end() == start => last.length += length,
                _ => extents.push(Extent { start, length, source }),
            }
            source = source.checked_add(length).filter(|source| *source <= end)?;
            reached = piece_end;
        }
        Some(match extents[..] {
            [Extent { start: 0, length, source }] if length == size => Content::Dense { source },
            _ => Content::Sparse(extents.into_boxed_slice()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(pieces: &[(u64, u64)], size: u64, stored: u64) -> Option<Content> {
        Map { pieces: pieces.to_vec(), data: 512 }.extents(size, 512 + stored)
    }

    #[test]
    fn touching_pieces_become_one_and_empty_ones_vanish() {
        let extent = |start, length, source| Extent { start, length, source };
        assert_eq!(
            content(&[(0, 10), (10, 5), (100, 1), (200, 0)], 200, 16),
            Some(Content::Sparse([extent(0, 15, 512), extent(100, 1, 527)].into()))
        );
        assert_eq!(content(&[(0, 10), (10, 5)], 15, 15), Some(Content::Dense { source: 512 }));
        assert_eq!(content(&[(200, 0)], 200, 0), Some(Content::Sparse([].into())));
    }

    #[test]
    fn maps_that_overlap_overflow_or_outgrow_their_data_are_refused() {
        assert_eq!(content(&[(0, 10), (5, 10)], 100, 20), None);
        assert_eq!(content(&[(50, 10), (0, 10)], 100, 20), None);
        assert_eq!(content(&[(95, 10)], 100, 20), None);
        assert_eq!(content(&[(u64::MAX, 2)], 100, 20), None);
        assert_eq!(content(&[(0, 30)], 100, 20), None);
    }
}
