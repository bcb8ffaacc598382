//! Where a filesystem keeps its metadata.
//!
//! Groups of 128 MiB are bundled by sixteen (`flex_bg`); the first group of each bundle holds the bitmaps and inode tables
//! of all of them. Every other group is then either untouched or, if it keeps a copy of the superblock, nearly so.

use super::BLOCK;
use super::superblock::DESCRIPTOR_SIZE;
use crate::rootfs::Error;

pub(super) const BLOCKS_PER_GROUP: u64 = 8 * BLOCK;
pub(super) const INODE_SIZE: u64 = 256;
const INODES_PER_BLOCK: u64 = BLOCK / INODE_SIZE;

/// With more, the tables of a bundle would fill the better half of its first group.
const INODES_PER_GROUP_MAX: u64 = 16384;

/// Groups to a bundle, as a power of two and as a count.
pub(super) const LOG_GROUPS_PER_FLEX: u8 = 4;
const GROUPS_PER_FLEX: u64 = 1 << LOG_GROUPS_PER_FLEX;

/// Bytes of disk for every inode, as `mke2fs` has it.
const BYTES_PER_INODE: u64 = 16 << 10;

/// The smallest disk worth formatting: below it the journal is most of the disk.
const SMALLEST: u64 = 16 << 20;

/// Block numbers have 32 bits.
pub(super) const LARGEST: u64 = (1 << 32) * BLOCK - BLOCK;

/// The smallest journal Linux accepts, and one that holds the writes of some seconds.
const SMALL_JOURNAL: u64 = 1024;
const USUAL_JOURNAL: u64 = 4096;

/// A filesystem's measures, in blocks where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    pub(super) groups: u64,
    pub(super) inodes_per_group: u64,
    /// Blocks of group descriptors behind each superblock.
    pub(super) descriptor_blocks: u64,
    pub(super) journal_blocks: u64,
}

/// Where the metadata of one group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
}

impl Geometry {
    /// The usual measures for a disk of `size` bytes that should have `inodes` inodes at least.
    pub(super) fn of(size: u64, inodes: u64) -> Result<Self, Error> {
        if size < SMALLEST {
            return Err(Error::TooSmall { format: "ext4", size, needed: SMALLEST });
        }
        if size > LARGEST {
            return Err(Error::TooLarge { format: "ext4", size, limit: LARGEST });
        }
        let geometry = Self::of_blocks(size / BLOCK, inodes);
        let last = geometry.groups - 1;
        // A last group too short for its own metadata is left out.
        if last > 0 && geometry.group_blocks(last) <= geometry.used_blocks(last) {
            return Ok(Self::of_blocks(last * BLOCKS_PER_GROUP, inodes));
        }
        Ok(geometry)
    }

    /// The smallest measures that hold `content` blocks and `inodes` inodes.
    pub(super) fn holding(content: u64, inodes: u64) -> Result<Self, Error> {
        let mut size = SMALLEST.max(content.saturating_mul(BLOCK));
        loop {
            let geometry = Self::of(size, inodes)?;
            let missing = content.saturating_sub(geometry.capacity());
            if missing == 0 && geometry.inodes() >= inodes {
                return Ok(geometry);
            }
            let whole_groups = inodes.div_ceil(INODES_PER_GROUP_MAX).saturating_sub(1);
            size = (size + (missing + 8) * BLOCK).max(whole_groups * BLOCKS_PER_GROUP * BLOCK);
        }
    }

    fn of_blocks(blocks: u64, inodes: u64) -> Self {
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let inodes = inodes.max(blocks * BLOCK / BYTES_PER_INODE);
        // Multiples of eight blocks of table keep the inode bitmap's used part in whole bytes.
        let inodes_per_group = inodes.div_ceil(groups).next_multiple_of(8 * INODES_PER_BLOCK);
        Geometry {
            blocks,
            groups,
            inodes_per_group: inodes_per_group.min(INODES_PER_GROUP_MAX),
            descriptor_blocks: (groups * DESCRIPTOR_SIZE as u64).div_ceil(BLOCK),
            journal_blocks: if blocks * BLOCK < 1 << 30 { SMALL_JOURNAL } else { USUAL_JOURNAL },
        }
    }

    pub(super) fn inodes(&self) -> u64 {
        self.groups * self.inodes_per_group
    }

    /// Blocks for files and directories.
    pub(super) fn capacity(&self) -> u64 {
        let free = |group| self.group_blocks(group) - self.used_blocks(group).min(self.group_blocks(group));
        (0..self.groups).map(free).sum::<u64>().saturating_sub(self.journal_blocks)
    }

    pub(super) fn table_blocks(&self) -> u64 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    pub(super) fn group_start(group: u64) -> u64 {
        group * BLOCKS_PER_GROUP
    }

    /// Blocks of a group: fewer in the last.
    pub(super) fn group_blocks(&self, group: u64) -> u64 {
        BLOCKS_PER_GROUP.min(self.blocks - Self::group_start(group))
    }

    /// Whether a group starts with a superblock: the first two and those numbered by powers of 3, 5 and 7.
    pub(super) fn has_superblock(group: u64) -> bool {
        let is_power = |base: u64| {
            let mut powers = std::iter::successors(Some(base), |power| Some(power * base));
            powers.find(|power| *power >= group) == Some(group)
        };
        group <= 1 || [3, 5, 7].into_iter().any(is_power)
    }

    /// Blocks of superblock and descriptors at the start of a group.
    pub(super) fn header_blocks(&self, group: u64) -> u64 {
        if Self::has_superblock(group) { 1 + self.descriptor_blocks } else { 0 }
    }

    /// Groups whose tables stand in `group`: those of its bundle if it is the bundle's first, else none.
    fn hosted_groups(&self, group: u64) -> u64 {
        if group.is_multiple_of(GROUPS_PER_FLEX) { GROUPS_PER_FLEX.min(self.groups - group) } else { 0 }
    }

    /// Blocks that metadata takes at the start of a group.
    pub(super) fn used_blocks(&self, group: u64) -> u64 {
        self.header_blocks(group) + self.hosted_groups(group) * (2 + self.table_blocks())
    }

    pub(super) fn tables(&self, group: u64) -> Tables {
        let host = group / GROUPS_PER_FLEX * GROUPS_PER_FLEX;
        let hosted = self.hosted_groups(host);
        let index = group - host;
        let block_bitmaps = Self::group_start(host) + self.header_blocks(host);
        Tables {
            block_bitmap: block_bitmaps + index,
            inode_bitmap: block_bitmaps + hosted + index,
            inode_table: block_bitmaps + 2 * hosted + index * self.table_blocks(),
        }
    }

    /// Where inode `number` is on the disk.
    pub(super) fn inode_position(&self, number: u32) -> u64 {
        let index = u64::from(number) - 1;
        let table = self.tables(index / self.inodes_per_group).inode_table;
        table * BLOCK + index % self.inodes_per_group * INODE_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn superblock_copies_are_where_linux_looks_for_them() {
        let groups: Vec<u64> = (0..130).filter(|group| Geometry::has_superblock(*group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    fn assert_sound(geometry: &Geometry) {
        for group in [0, geometry.groups / 2, geometry.groups - 1] {
            assert!(geometry.used_blocks(group) < geometry.group_blocks(group), "{geometry:?}");
            let tables = geometry.tables(group);
            assert!(tables.block_bitmap < tables.inode_bitmap && tables.inode_bitmap < tables.inode_table);
            let host = group / GROUPS_PER_FLEX * GROUPS_PER_FLEX;
            let end = Geometry::group_start(host) + geometry.used_blocks(host);
            assert!(tables.inode_table + geometry.table_blocks() <= end);
        }
        assert!(geometry.used_blocks(0) + geometry.journal_blocks + 2 < geometry.group_blocks(0), "{geometry:?}");
    }

    proptest! {
        #[test]
        fn metadata_fits_its_group_and_never_overlaps(size in SMALLEST..(1u64 << 42), inodes in 0u64..1_000_000) {
            let geometry = Geometry::of(size, 0).unwrap();
            prop_assert!(geometry.blocks * BLOCK <= size);
            assert_sound(&geometry);
            let geometry = Geometry::holding(size / BLOCK, inodes).unwrap();
            prop_assert!(geometry.capacity() >= size / BLOCK && geometry.inodes() >= inodes);
            assert_sound(&geometry);
        }

        #[test]
        fn a_small_tree_gets_a_small_image(content in 0u64..100_000, inodes in 0u64..16_384) {
            let geometry = Geometry::holding(content, inodes).unwrap();
            let least = (content + SMALL_JOURNAL + inodes / INODES_PER_BLOCK) * BLOCK;
            prop_assert!(geometry.blocks * BLOCK <= (least + least / 4).max(SMALLEST) + (32 << 20));
            assert_sound(&geometry);
        }
    }
}
