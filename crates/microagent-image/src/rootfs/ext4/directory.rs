//! Directories: blocks of entries in order of name, each block ending in a checksum.

use super::BLOCK;
use super::inode::InodeSeed;
use crate::rootfs::crc32c::crc32c;
use crate::rootfs::linux::FileType;

const HEADER: usize = 8;

/// A false entry at the end of each block holds the checksum.
const TAIL: usize = 12;
const ROOM: usize = BLOCK as usize - TAIL;

/// One entry of a directory.
#[derive(Clone, Copy)]
pub(super) struct Entry<'n> {
    pub(super) name: &'n [u8],
    pub(super) inode: u32,
    pub(super) file_type: FileType,
}

fn length(name: &[u8]) -> usize {
    (HEADER + name.len()).next_multiple_of(4)
}

/// Blocks of a directory that holds `names` besides `.` and `..`.
pub(super) fn blocks<'n>(names: impl Iterator<Item = &'n [u8]>) -> u64 {
    let (mut blocks, mut used) = (1, length(b".") + length(b".."));
    for name in names {
        let need = length(name);
        if used + need > ROOM {
            blocks += 1;
            used = 0;
        }
        used += need;
    }
    blocks
}

/// Writes a directory's blocks. The first two entries are `.` and `..`.
pub(super) fn encode<'n>(entries: impl Iterator<Item = Entry<'n>>, seed: InodeSeed) -> Vec<u8> {
    let mut data = Vec::new();
    let mut block: Vec<Entry<'n>> = Vec::new();
    let mut used = 0;
    for entry in entries {
        let need = length(entry.name);
        if used + need > ROOM {
            data.extend(encode_block(&block, seed));
            block.clear();
            used = 0;
        }
        used += need;
        block.push(entry);
    }
    data.extend(encode_block(&block, seed));
    data
}

fn encode_block(entries: &[Entry<'_>], seed: InodeSeed) -> [u8; BLOCK as usize] {
    const TAIL_TYPE: u8 = 0xDE;
    let mut block = [0; BLOCK as usize];
    let mut offset = 0;
    for (index, entry) in entries.iter().enumerate() {
        // The last entry owns what is left of the block.
        let last = index + 1 == entries.len();
        let length = if last { ROOM - offset } else { length(entry.name) };
        block[offset..offset + 4].copy_from_slice(&entry.inode.to_le_bytes());
        block[offset + 4..offset + 6].copy_from_slice(&(length as u16).to_le_bytes());
        block[offset + 6] = entry.name.len() as u8;
        block[offset + 7] = entry.file_type as u8;
        block[offset + HEADER..offset + HEADER + entry.name.len()].copy_from_slice(entry.name);
        offset += length;
    }
    block[ROOM + 4] = TAIL as u8;
    block[ROOM + 7] = TAIL_TYPE;
    let checksum = crc32c(seed.0, &block[..ROOM]);
    block[ROOM + 8..].copy_from_slice(&checksum.to_le_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_blocks_reckoned_are_the_blocks_written(names in prop::collection::vec(prop::collection::vec(1u8.., 1..256), 0..200)) {
            let dots = [&b"."[..], b".."];
            let all = dots.into_iter().chain(names.iter().map(|name| &name[..]));
            let data = encode(all.map(|name| Entry { name, inode: 11, file_type: FileType::Regular }), InodeSeed(0));
            prop_assert_eq!(data.len() as u64, blocks(names.iter().map(|name| &name[..])) * BLOCK);
        }
    }
}
