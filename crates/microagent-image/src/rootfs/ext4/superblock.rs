//! The superblock and group descriptors, as Linux's `fs/ext4/ext4.h` lays them out, little-endian.

use super::BLOCK;
use super::extents::Map;
use super::geometry::{BLOCKS_PER_GROUP, Geometry, INODE_SIZE, LOG_GROUPS_PER_FLEX, Tables};
use super::inode::{FIRST_FREE_INODE, JOURNAL_INODE};
use crate::rootfs::crc32c::crc32c;

pub(super) const SUPERBLOCK_SIZE: usize = 1024;
pub(super) const DESCRIPTOR_SIZE: usize = 32;
/// What tells a superblock from anything else.
pub(super) const MAGIC: u16 = 0xEF53;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_EXT_ATTR: u32 = 0x8;
const COMPAT_DIR_INDEX: u32 = 0x20;
const INCOMPAT_FILETYPE: u32 = 0x2;
/// The journal is to be replayed.
pub(super) const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_LARGE_FILE: u32 = 0x2;
const RO_COMPAT_HUGE_FILE: u32 = 0x8;
const RO_COMPAT_DIR_NLINK: u32 = 0x20;
const RO_COMPAT_EXTRA_ISIZE: u32 = 0x40;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// What a new filesystem is given once, and everything in it is derived from.
pub(super) struct Identity {
    pub(super) uuid: [u8; 16],
    pub(super) hash_seed: [u8; 16],
    /// Seconds since 1970.
    pub(super) created: u32,
}

impl Identity {
    /// What every metadata checksum starts from.
    pub(super) fn checksum_seed(&self) -> u32 {
        crc32c(!0, &self.uuid)
    }
}

/// Free space, summed over all groups.
pub(super) struct Free {
    pub(super) blocks: u64,
    pub(super) inodes: u64,
}

/// The superblock that stands in `group`. `journal_map` is the journal inode's block map, kept here for repair.
pub(super) fn encode(
    geometry: &Geometry,
    identity: &Identity,
    free: &Free,
    journal_map: &Map,
    group: u64,
) -> [u8; SUPERBLOCK_SIZE] {
    const CLEAN: u16 = 1;
    const CONTINUE_ON_ERROR: u16 = 1;
    const NEVER_BY_MOUNTS: u16 = u16::MAX;
    const DYNAMIC_REVISION: u32 = 1;
    const HALF_MD4: u8 = 1;
    const JOURNAL_BACKUP_IS_MAP: u8 = 1;
    const USER_XATTR_AND_ACL: u32 = 0xc;
    const UNSIGNED_HASH: u32 = 2;
    const CRC32C: u8 = 1;
    const EXTRA_INODE_SIZE: u16 = 32;

    let mut bytes = [0; SUPERBLOCK_SIZE];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    let word = |value: u64| (value as u32).to_le_bytes();
    put(0x00, &word(geometry.inodes()));
    put(0x04, &word(geometry.blocks));
    put(0x0C, &word(free.blocks));
    put(0x10, &word(free.inodes));
    let log_block_size = (BLOCK / 1024).trailing_zeros().to_le_bytes();
    put(0x18, &log_block_size);
    put(0x1C, &log_block_size);
    put(0x20, &word(BLOCKS_PER_GROUP));
    put(0x24, &word(BLOCKS_PER_GROUP));
    put(0x28, &word(geometry.inodes_per_group));
    put(0x30, &identity.created.to_le_bytes());
    put(0x36, &NEVER_BY_MOUNTS.to_le_bytes());
    put(0x38, &MAGIC.to_le_bytes());
    put(0x3A, &CLEAN.to_le_bytes());
    put(0x3C, &CONTINUE_ON_ERROR.to_le_bytes());
    put(0x40, &identity.created.to_le_bytes());
    put(0x4C, &DYNAMIC_REVISION.to_le_bytes());
    put(0x54, &FIRST_FREE_INODE.to_le_bytes());
    put(0x58, &(INODE_SIZE as u16).to_le_bytes());
    put(0x5A, &(group as u16).to_le_bytes());
    put(0x5C, &(COMPAT_HAS_JOURNAL | COMPAT_EXT_ATTR | COMPAT_DIR_INDEX).to_le_bytes());
    put(0x60, &(INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_FLEX_BG).to_le_bytes());
    put(0x64, &read_only_features().to_le_bytes());
    put(0x68, &identity.uuid);
    put(0xE0, &JOURNAL_INODE.to_le_bytes());
    put(0xEC, &identity.hash_seed);
    put(0xFC, &[HALF_MD4, JOURNAL_BACKUP_IS_MAP]);
    put(0x100, &USER_XATTR_AND_ACL.to_le_bytes());
    put(0x108, &identity.created.to_le_bytes());
    put(0x10C, journal_map);
    put(0x10C + 64, &word(geometry.journal_blocks * BLOCK));
    put(0x15C, &EXTRA_INODE_SIZE.to_le_bytes());
    put(0x15E, &EXTRA_INODE_SIZE.to_le_bytes());
    put(0x160, &UNSIGNED_HASH.to_le_bytes());
    put(0x174, &[LOG_GROUPS_PER_FLEX, CRC32C]);
    let checksum = crc32c(!0, &bytes[..0x3FC]);
    bytes[0x3FC..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn read_only_features() -> u32 {
    RO_COMPAT_SPARSE_SUPER
        | RO_COMPAT_LARGE_FILE
        | RO_COMPAT_HUGE_FILE
        | RO_COMPAT_DIR_NLINK
        | RO_COMPAT_EXTRA_ISIZE
        | RO_COMPAT_METADATA_CSUM
}

/// One group's descriptor.
pub(super) struct Descriptor {
    pub(super) tables: Tables,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    pub(super) directories: u16,
    /// Checksums of the bitmaps that are on disk; those that are not, Linux computes when it first needs them.
    pub(super) block_bitmap_checksum: Option<u16>,
    pub(super) inode_bitmap_checksum: Option<u16>,
}

impl Descriptor {
    pub(super) fn encode(&self, group: u64, checksum_seed: u32) -> [u8; DESCRIPTOR_SIZE] {
        const INODE_UNINIT: u16 = 1;
        const BLOCK_UNINIT: u16 = 2;
        // The disk reads as zeroes, so Linux need not clear the inode tables in the background, which would write them.
        const INODE_ZEROED: u16 = 4;
        let mut flags = INODE_ZEROED;
        if self.inode_bitmap_checksum.is_none() {
            flags |= INODE_UNINIT;
        }
        if self.block_bitmap_checksum.is_none() {
            flags |= BLOCK_UNINIT;
        }
        let mut bytes = [0; DESCRIPTOR_SIZE];
        let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0x00, &(self.tables.block_bitmap as u32).to_le_bytes());
        put(0x04, &(self.tables.inode_bitmap as u32).to_le_bytes());
        put(0x08, &(self.tables.inode_table as u32).to_le_bytes());
        put(0x0C, &(self.free_blocks as u16).to_le_bytes());
        put(0x0E, &(self.free_inodes as u16).to_le_bytes());
        put(0x10, &self.directories.to_le_bytes());
        put(0x12, &flags.to_le_bytes());
        put(0x18, &self.block_bitmap_checksum.unwrap_or(0).to_le_bytes());
        put(0x1A, &self.inode_bitmap_checksum.unwrap_or(0).to_le_bytes());
        // Inodes are handed out in order, so those that are free have never been used.
        put(0x1C, &(self.free_inodes as u16).to_le_bytes());
        let checksum = crc32c(crc32c(checksum_seed, &(group as u32).to_le_bytes()), &bytes) as u16;
        bytes[0x1E..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}
