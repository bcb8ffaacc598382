//! The three inodes a blank filesystem has, and their blocks.

use super::BLOCK;
use super::geometry::INODE_SIZE;
use super::superblock::Identity;
use crate::rootfs::crc32c::crc32c;

pub(super) const ROOT_INODE: u32 = 2;
pub(super) const JOURNAL_INODE: u32 = 8;
/// The first inode that is not reserved: `lost+found`, which `e2fsck` wants to find.
pub(super) const FIRST_FREE_INODE: u32 = 11;
pub(super) const LOST_AND_FOUND_INODE: u32 = FIRST_FREE_INODE;

/// A file in one run of blocks.
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) mode: u16,
    pub(super) links: u16,
    pub(super) first_block: u64,
    pub(super) blocks: u64,
}

impl Inode {
    /// The block map: an extent tree of one extent.
    pub(super) fn map(&self) -> [u8; 60] {
        const MAGIC: u16 = 0xF30A;
        const ENTRIES: u16 = 1;
        const ENTRIES_MAX: u16 = 4;
        let mut map = [0; 60];
        map[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        map[2..4].copy_from_slice(&ENTRIES.to_le_bytes());
        map[4..6].copy_from_slice(&ENTRIES_MAX.to_le_bytes());
        map[16..18].copy_from_slice(&(self.blocks as u16).to_le_bytes());
        map[20..24].copy_from_slice(&(self.first_block as u32).to_le_bytes());
        map
    }

    pub(super) fn encode(&self, identity: &Identity) -> [u8; INODE_SIZE as usize] {
        const EXTENTS: u32 = 0x80000;
        const EXTRA_SIZE: u16 = 32;
        let mut bytes = [0; INODE_SIZE as usize];
        let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0x00, &self.mode.to_le_bytes());
        put(0x04, &((self.blocks * BLOCK) as u32).to_le_bytes());
        for time in [0x08, 0x0C, 0x10, 0x90] {
            put(time, &identity.created.to_le_bytes());
        }
        put(0x1A, &self.links.to_le_bytes());
        put(0x1C, &((self.blocks * BLOCK / 512) as u32).to_le_bytes());
        put(0x20, &EXTENTS.to_le_bytes());
        put(0x28, &self.map());
        put(0x80, &EXTRA_SIZE.to_le_bytes());
        let checksum = crc32c(checksum_seed(self.number, identity), &bytes).to_le_bytes();
        bytes[0x7C..0x7E].copy_from_slice(&checksum[..2]);
        bytes[0x82..0x84].copy_from_slice(&checksum[2..]);
        bytes
    }
}

/// What the checksums of an inode and of its directory blocks start from; its generation is 0.
fn checksum_seed(number: u32, identity: &Identity) -> u32 {
    crc32c(crc32c(identity.checksum_seed(), &number.to_le_bytes()), &0u32.to_le_bytes())
}

/// The only block of directory `number`, holding `entries` of subdirectories.
pub(super) fn directory_block(
    number: u32,
    entries: &[(&[u8], u32)],
    identity: &Identity,
) -> [u8; BLOCK as usize] {
    const HEADER: usize = 8;
    const DIRECTORY: u8 = 2;
    /// A false entry at the end of the block holds the checksum.
    const TAIL: usize = 12;
    const TAIL_TYPE: u8 = 0xDE;
    let mut block = [0; BLOCK as usize];
    let (mut offset, end) = (0, block.len() - TAIL);
    for (index, (name, inode)) in entries.iter().enumerate() {
        let last = index + 1 == entries.len();
        let length = if last { end - offset } else { (HEADER + name.len()).next_multiple_of(4) };
        block[offset..offset + 4].copy_from_slice(&inode.to_le_bytes());
        block[offset + 4..offset + 6].copy_from_slice(&(length as u16).to_le_bytes());
        block[offset + 6] = name.len() as u8;
        block[offset + 7] = DIRECTORY;
        block[offset + HEADER..offset + HEADER + name.len()].copy_from_slice(name);
        offset += length;
    }
    block[end + 4] = TAIL as u8;
    block[end + 7] = TAIL_TYPE;
    let checksum = crc32c(checksum_seed(number, identity), &block[..end]);
    block[end + 8..].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// The first block of an empty journal, as Linux's `include/linux/jbd2.h` lays it out, big-endian.
pub(super) fn journal_superblock(blocks: u64, identity: &Identity) -> [u8; 1024] {
    const MAGIC: u32 = 0xC03B_3998;
    const SUPERBLOCK_V2: u32 = 4;
    const FIRST_BLOCK: u32 = 1;
    const FIRST_SEQUENCE: u32 = 1;
    const USERS: u32 = 1;
    let mut bytes = [0; 1024];
    let fields = [
        (0x00, MAGIC),
        (0x04, SUPERBLOCK_V2),
        (0x0C, BLOCK as u32),
        (0x10, blocks as u32),
        (0x14, FIRST_BLOCK),
        (0x18, FIRST_SEQUENCE),
        (0x40, USERS),
    ];
    for (offset, value) in fields {
        bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
    }
    bytes[0x30..0x40].copy_from_slice(&identity.uuid);
    bytes
}
