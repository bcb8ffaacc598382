//! Finds what is different in a file from what a chain gives.

use super::draft::Draft;
use super::format::{BLOCK, Layer, data_offset, read};
use super::stack::{Extent, stack};
use super::{LayerId, path_of};
use crate::Error;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Blocks that are read and compared at once: 1 MiB of them, which stays in the processor's cache.
const WINDOW: u64 = 256;
/// Blocks between two stretches that are rather read than skipped: a system call costs as much.
const SKIP: u64 = 8;
const ZEROES: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Writes the layer that makes `from` of what `parents` give; `None` when they give it already.
pub(super) fn write(
    directory: &Path,
    from: &File,
    ranges: Option<&[Range<u64>]>,
    parents: &[Layer],
) -> Result<Option<LayerId>, Error> {
    let length = from.metadata().map_err(Error::io("look at", path_of(from)))?.len();
    let below = stack(parents);
    let mut stretches = data(from, length)?;
    stretches.extend(below.iter().map(|extent| extent.start..extent.end.min(length.div_ceil(BLOCK))));
    let mut stretches = joined(stretches, SKIP);
    if let Some(ranges) = ranges {
        let blocks = ranges.iter().map(|range| range.start / BLOCK..range.end.min(length).div_ceil(BLOCK));
        stretches = common(&stretches, &joined(blocks.collect(), 0));
    }

    let mut comparison = Comparison { from, parents, below: &below, new: Vec::new(), old: Vec::new() };
    let mut draft = Draft::new(directory, length);
    for stretch in stretches {
        for start in stretch.clone().step_by(WINDOW as usize) {
            comparison.window(start..stretch.end.min(start + WINDOW), &mut draft)?;
        }
    }
    draft.finish()
}

/// The stretches of a file that are no holes, in blocks.
fn data(file: &File, length: u64) -> Result<Vec<Range<u64>>, Error> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < length {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole from here on.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(Error::io("look for data in", path_of(file))(errno.into())),
        };
        let end = seek(file, SeekFrom::Hole(start))
            .map_err(|errno| Error::io("look for holes in", path_of(file))(errno.into()))?;
        found.push(start / BLOCK..end.min(length).div_ceil(BLOCK));
        at = end;
    }
    Ok(found)
}

/// All of them in order, those in one that are at most `gap` apart.
fn joined(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + gap => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What is in both. Each is in order and does not overlap itself.
fn common(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut common = Vec::new();
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        let both = one.start.max(other.start)..one.end.min(other.end);
        if one.end < other.end {
            a.next()
        } else {
            b.next()
        };
        if both.start < both.end {
            common.push(both);
        }
    }
    common
}

/// The file and the chain, side by side.
struct Comparison<'a> {
    from: &'a File,
    parents: &'a [Layer],
    /// What of the chain was not passed yet.
    below: &'a [Extent],
    new: Vec<u8>,
    old: Vec<u8>,
}

impl Comparison<'_> {
    /// Notes what is different among the blocks of a window. Windows come in order.
    fn window(&mut self, window: Range<u64>, draft: &mut Draft) -> Result<(), Error> {
        let bytes = ((window.end - window.start) * BLOCK) as usize;
        self.new.resize(bytes, 0);
        fill(self.from, &mut self.new, window.start * BLOCK)?;
        let old = self.read_old(&window, bytes)?;
        if old && self.new == self.old {
            return Ok(());
        }
        // Stretches of blocks that are to be kept are handed on as one.
        let mut kept: Option<usize> = None;
        let block = BLOCK as usize;
        for at in (0..bytes).step_by(block) {
            let new = &self.new[at..at + block];
            let below = if old { &self.old[at..at + block] } else { &ZEROES };
            let different = new != below;
            let keep = different && (!old || new != ZEROES);
            if keep {
                kept.get_or_insert(at);
                continue;
            }
            if let Some(first) = kept.take() {
                draft.data(window.start + first as u64 / BLOCK, &self.new[first..at])?;
            }
            if different {
                draft.zero(window.start + at as u64 / BLOCK, 1);
            }
        }
        if let Some(first) = kept {
            draft.data(window.start + first as u64 / BLOCK, &self.new[first..])?;
        }
        Ok(())
    }

    /// Reads what the chain gives; false when that is nothing. It is not verified: at worst more is kept than needed, or the chain is as
    /// damaged as it was.
    fn read_old(&mut self, window: &Range<u64>, bytes: usize) -> Result<bool, Error> {
        let passed = self.below.iter().take_while(|extent| extent.end <= window.start).count();
        self.below = &self.below[passed..];
        if self.below.first().is_none_or(|extent| extent.start >= window.end) {
            return Ok(false);
        }
        self.old.clear();
        self.old.resize(bytes, 0);
        for extent in self.below.iter().take_while(|extent| extent.start < window.end) {
            let part = extent.within(window.start, window.end);
            let place = |block: u64| ((block - window.start) * BLOCK) as usize;
            let layer = &self.parents[part.layer];
            if !read(&layer.file, &mut self.old[place(part.start)..place(part.end)], data_offset(part.at))? {
                return Err(super::format::damaged(&layer.id, "it became shorter"));
            }
        }
        Ok(true)
    }
}

/// Reads into all of `buffer`, with zeroes after the end of the file.
fn fill(file: &File, buffer: &mut [u8], mut offset: u64) -> Result<(), Error> {
    let mut rest = buffer;
    while !rest.is_empty() {
        match file.read_at(rest, offset) {
            Ok(0) => {
                rest.fill(0);
                break;
            }
            Ok(read) => {
                rest = &mut rest[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::io("read", path_of(file))(source)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_joined_and_cut() {
        let near = joined(vec![10..12, 0..3, 4..5, 2..4, 7..7], 1);
        assert_eq!(near, [0..5, 10..12]);
        assert_eq!(common(&near, &[1..2, 4..11, 20..30]), [1..2, 4..5, 10..11]);
    }
}
