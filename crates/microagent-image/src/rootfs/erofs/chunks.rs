//! Sparse files: equal chunks, each either a hole or a place in the image.

use std::fs::File;

use super::format::{BLOCK, HOLE};
use crate::rootfs::Error;
use crate::rootfs::content::Extent;
use crate::rootfs::output::{Output, SparseBlocks};

/// Entries a map may have before larger chunks are chosen: 1 MiB of map.
const MAP_ENTRIES: u64 = 1 << 18;

/// How a sparse file is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Blocks to a chunk, as a power of two.
    bits: u32,
    size: u64,
}

impl Chunks {
    /// One-block chunks as long as the map stays small; then whatever power of two keeps it so.
    pub(super) fn of(size: u64) -> Self {
        let blocks = size.div_ceil(BLOCK);
        let bits = blocks.div_ceil(MAP_ENTRIES).next_power_of_two().trailing_zeros();
        Chunks { bits, size }
    }

    /// The chunk format an inode states.
    pub(super) fn format(self) -> u32 {
        self.bits
    }

    fn bytes(self) -> u64 {
        BLOCK << self.bits
    }

    pub(super) fn map_size(self) -> u64 {
        self.size.div_ceil(self.bytes()) * 4
    }

    /// Blocks the chunk that starts at `start` takes: all of them, or those up to the end of the file.
    fn blocks(self, start: u64) -> u64 {
        self.bytes().min(self.size - start).div_ceil(BLOCK)
    }

    /// Starts of the chunks that hold data, in order.
    fn occupied(self, extents: &[Extent]) -> impl Iterator<Item = u64> {
        let chunk = self.bytes();
        let mut next = 0;
        extents.iter().flat_map(move |extent| {
            let first = (extent.start / chunk * chunk).max(next);
            next = extent.end().next_multiple_of(chunk);
            (first..extent.end()).step_by(chunk as usize)
        })
    }

    /// Blocks of data the file takes.
    pub(super) fn data_blocks(self, extents: &[Extent]) -> u64 {
        self.occupied(extents).map(|start| self.blocks(start)).sum()
    }

    /// The map of a file whose data starts at block `first`.
    pub(super) fn map(self, extents: &[Extent], first: u32) -> Vec<u8> {
        let mut map = vec![0; self.map_size() as usize];
        let (entries, _) = map.as_chunks_mut::<4>();
        entries.fill(HOLE.to_le_bytes());
        let mut block = first;
        for start in self.occupied(extents) {
            entries[(start / self.bytes()) as usize] = block.to_le_bytes();
            block += self.blocks(start) as u32;
        }
        map
    }

    /// Writes the chunks that hold data, one behind the other.
    pub(super) fn write(self, extents: &[Extent], layer: &File, output: &mut Output<'_>) -> Result<(), Error> {
        let mut blocks = SparseBlocks::new(layer, extents);
        for start in self.occupied(extents) {
            blocks.copy(start, start + self.blocks(start) * BLOCK, output)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_stay_small_however_large_the_file() {
        assert_eq!(Chunks::of(1).format(), 0);
        assert_eq!(Chunks::of(1 << 30).format(), 0);
        assert_eq!(Chunks::of((1 << 30) + 1).format(), 1);
        assert!(Chunks::of(1 << 40).map_size() <= 1 << 20);
    }

    #[test]
    fn only_chunks_with_data_take_blocks_and_the_last_takes_what_is_left() {
        let extent = |start, length| Extent { start, length, source: 0 };
        let chunks = Chunks::of(10 * BLOCK + 1);
        let extents = [extent(0, 1), extent(2, 3), extent(BLOCK - 1, 2), extent(10 * BLOCK, 1)];
        assert_eq!(chunks.occupied(&extents).collect::<Vec<_>>(), [0, BLOCK, 10 * BLOCK]);
        assert_eq!(chunks.data_blocks(&extents), 3);
        let map = chunks.map(&extents, 7);
        let entries: Vec<u32> = map.as_chunks::<4>().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
        assert_eq!(entries[0], 7);
        assert_eq!(entries[1], 8);
        assert_eq!(entries[10], 9);
        assert!(entries[2..10].iter().all(|entry| *entry == HOLE));
    }
}
