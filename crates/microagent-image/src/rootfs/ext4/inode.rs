//! Inodes, and the journal's own block.

use super::BLOCK;
use super::extents::Map;
use super::geometry::INODE_SIZE;
use super::superblock::Identity;
use crate::rootfs::crc32c::crc32c;

pub(super) const ROOT_INODE: u32 = 2;
pub(super) const JOURNAL_INODE: u32 = 8;
/// The first inode that is not reserved.
pub(super) const FIRST_FREE_INODE: u32 = 11;

/// The times 34 bits of seconds hold, counted from 1901.
const EARLIEST: i64 = -(1 << 31);
const LATEST: i64 = (1 << 34) - (1 << 31) - 1;

/// A time as ext4 holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

impl Time {
    /// The nearest time ext4 can hold.
    pub(super) fn nearest(seconds: i64, nanoseconds: u32) -> Self {
        if seconds < EARLIEST {
            Time { seconds: EARLIEST, nanoseconds: 0 }
        } else if seconds > LATEST {
            Time { seconds: LATEST, nanoseconds: 999_999_999 }
        } else {
            Time { seconds, nanoseconds }
        }
    }

    /// The low 32 bits, which are signed, and the field that holds two more bits of seconds and the nanoseconds.
    fn encode(self) -> ([u8; 4], [u8; 4]) {
        let low = self.seconds as i32;
        let epoch = ((self.seconds - i64::from(low)) >> 32).cast_unsigned() as u32 & 3;
        (low.to_le_bytes(), (epoch | self.nanoseconds << 2).to_le_bytes())
    }
}

/// What the checksums of one inode, its directory blocks and its block map start from.
#[derive(Clone, Copy)]
pub(super) struct InodeSeed(pub(super) u32);

impl InodeSeed {
    /// The generation of every inode is 0.
    pub(super) fn of(number: u32, identity: &Identity) -> Self {
        InodeSeed(crc32c(crc32c(identity.checksum_seed(), &number.to_le_bytes()), &0u32.to_le_bytes()))
    }
}

/// One inode.
pub(super) struct Inode {
    pub(super) number: u32,
    /// File type and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u16,
    pub(super) time: Time,
    pub(super) size: u64,
    /// Blocks in use, the map's and the attributes' own included.
    pub(super) blocks: u64,
    pub(super) content: Content,
    /// The block of the attributes, or 0.
    pub(super) xattr_block: u64,
}

/// What the 60 bytes of an inode are.
pub(super) enum Content {
    Extents(Map),
    /// A device number or the target of a short symbolic link.
    Direct(Map),
}

impl Inode {
    pub(super) fn encode(&self, identity: &Identity) -> [u8; INODE_SIZE as usize] {
        const EXTENTS: u32 = 0x80000;
        const EXTRA_SIZE: u16 = 32;
        let (flags, content) = match &self.content {
            Content::Extents(map) => (EXTENTS, map),
            Content::Direct(bytes) => (0, bytes),
        };
        let sectors = self.blocks * (BLOCK / 512);
        let (time, time_extra) = self.time.encode();
        let mut bytes = [0; INODE_SIZE as usize];
        let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0x00, &self.mode.to_le_bytes());
        put(0x02, &(self.uid as u16).to_le_bytes());
        put(0x04, &(self.size as u32).to_le_bytes());
        for offset in [0x08, 0x0C, 0x10, 0x90] {
            put(offset, &time);
        }
        put(0x18, &(self.gid as u16).to_le_bytes());
        put(0x1A, &self.links.to_le_bytes());
        put(0x1C, &(sectors as u32).to_le_bytes());
        put(0x20, &flags.to_le_bytes());
        put(0x28, content);
        put(0x68, &(self.xattr_block as u32).to_le_bytes());
        put(0x6C, &((self.size >> 32) as u32).to_le_bytes());
        put(0x74, &((sectors >> 32) as u16).to_le_bytes());
        put(0x78, &((self.uid >> 16) as u16).to_le_bytes());
        put(0x7A, &((self.gid >> 16) as u16).to_le_bytes());
        put(0x80, &EXTRA_SIZE.to_le_bytes());
        for offset in [0x84, 0x88, 0x8C, 0x94] {
            put(offset, &time_extra);
        }
        let checksum = crc32c(InodeSeed::of(self.number, identity).0, &bytes).to_le_bytes();
        bytes[0x7C..0x7E].copy_from_slice(&checksum[..2]);
        bytes[0x82..0x84].copy_from_slice(&checksum[2..]);
        bytes
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_reach_from_1901_to_2446() {
        let encode = |seconds, nanoseconds| {
            let (low, extra) = Time::nearest(seconds, nanoseconds).encode();
            (u32::from_le_bytes(low), u32::from_le_bytes(extra))
        };
        assert_eq!(encode(0, 1), (0, 4));
        assert_eq!(encode(-1, 0), (u32::MAX, 0));
        assert_eq!(encode(1 << 31, 0), (1 << 31, 1));
        assert_eq!(encode(4_102_444_800, 0), (4_102_444_800, 1));
        assert_eq!(encode(LATEST, 0), (i32::MAX.cast_unsigned(), 3));
        assert_eq!(encode(i64::MAX, 0), (i32::MAX.cast_unsigned(), 3 | 999_999_999 << 2));
        assert_eq!(encode(i64::MIN, 5), (1 << 31, 0));
    }
}
