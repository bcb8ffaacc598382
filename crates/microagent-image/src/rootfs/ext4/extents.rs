//! Block maps: which runs of blocks hold which part of a file, as a tree.

use super::BLOCK;
use super::allocate::Run;
use super::inode::InodeSeed;
use crate::rootfs::crc32c::crc32c;

const HEADER: usize = 12;
const ENTRY: usize = 12;

/// Entries that fit beside a header in an inode and in a block, where a checksum takes the last four bytes.
const IN_INODE: usize = 4;
const IN_BLOCK: usize = (BLOCK as usize - HEADER - 4) / ENTRY;

/// Blocks one extent can cover.
pub(super) const EXTENT_MAX: u64 = 32768;

/// The 60 bytes of an inode that say where its data is.
pub(super) type Map = [u8; 60];

/// A run of blocks and the block of the file it starts at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) logical: u64,
    pub(super) run: Run,
}

/// Appends `run` at `logical`, growing the last extent if it goes on there.
pub(super) fn push(extents: &mut Vec<Extent>, logical: u64, run: Run) {
    if let Some(last) = extents.last_mut()
        && last.logical + last.run.length == logical
        && last.run.start + last.run.length == run.start
        && last.run.length + run.length <= EXTENT_MAX
    {
        last.run.length += run.length;
    } else {
        extents.push(Extent { logical, run });
    }
}

/// The most blocks the tree over `extents` extents takes.
pub(super) fn tree_blocks(extents: u64) -> u64 {
    let (mut level, mut blocks) = (extents, 0);
    while level > IN_INODE as u64 {
        level = level.div_ceil(IN_BLOCK as u64);
        blocks += level;
    }
    blocks
}

/// Builds the tree. `place` is given each block of it outside the inode and returns where that block will be.
pub(super) fn build<E>(
    extents: &[Extent],
    seed: InodeSeed,
    mut place: impl FnMut([u8; BLOCK as usize]) -> Result<u64, E>,
) -> Result<Map, E> {
    let mut level: Vec<(u32, [u8; ENTRY])> =
        extents.iter().map(|extent| (extent.logical as u32, encode_extent(extent))).collect();
    let mut depth = 0;
    while level.len() > IN_INODE {
        let mut above = Vec::with_capacity(level.len().div_ceil(IN_BLOCK));
        for entries in level.chunks(IN_BLOCK) {
            let mut block = [0; BLOCK as usize];
            encode_node(&mut block, entries, IN_BLOCK, depth);
            let end = block.len() - 4;
            let checksum = crc32c(seed.0, &block[..end]);
            block[end..].copy_from_slice(&checksum.to_le_bytes());
            let logical = entries[0].0;
            above.push((logical, encode_index(logical, place(block)?)));
        }
        level = above;
        depth += 1;
    }
    let mut map = [0; 60];
    encode_node(&mut map, &level, IN_INODE, depth);
    Ok(map)
}

fn encode_node(node: &mut [u8], entries: &[(u32, [u8; ENTRY])], room: usize, depth: u16) {
    const MAGIC: u16 = 0xF30A;
    for (index, value) in [MAGIC, entries.len() as u16, room as u16, depth].into_iter().enumerate() {
        node[2 * index..2 * index + 2].copy_from_slice(&value.to_le_bytes());
    }
    for (index, (_, entry)) in entries.iter().enumerate() {
        let start = HEADER + ENTRY * index;
        node[start..start + ENTRY].copy_from_slice(entry);
    }
}

fn encode_extent(extent: &Extent) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0..4].copy_from_slice(&(extent.logical as u32).to_le_bytes());
    entry[4..6].copy_from_slice(&(extent.run.length as u16).to_le_bytes());
    entry[8..12].copy_from_slice(&(extent.run.start as u32).to_le_bytes());
    entry
}

fn encode_index(logical: u32, block: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0..4].copy_from_slice(&logical.to_le_bytes());
    entry[4..8].copy_from_slice(&(block as u32).to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_reckoned_are_the_blocks_placed() {
        for count in [0, 4, 5, 340, 341, 1360, 1361, 200_000] {
            let extents: Vec<Extent> = (0..count)
                .map(|index| Extent { logical: 2 * index, run: Run { start: 3 * index, length: 1 } })
                .collect();
            let mut placed = 0;
            build(&extents, InodeSeed(0), |_| {
                placed += 1;
                Ok::<u64, ()>(placed)
            })
            .unwrap();
            assert_eq!(placed, tree_blocks(count), "{count} extents");
        }
    }

    #[test]
    fn neighbours_become_one_extent_up_to_what_one_can_cover() {
        let mut extents = Vec::new();
        push(&mut extents, 0, Run { start: 10, length: 5 });
        push(&mut extents, 5, Run { start: 15, length: EXTENT_MAX - 5 });
        push(&mut extents, EXTENT_MAX, Run { start: 10 + EXTENT_MAX, length: 1 });
        push(&mut extents, EXTENT_MAX + 2, Run { start: 11 + EXTENT_MAX, length: 1 });
        let lengths: Vec<u64> = extents.iter().map(|extent| extent.run.length).collect();
        assert_eq!(lengths, [EXTENT_MAX, 1, 1]);
    }
}
