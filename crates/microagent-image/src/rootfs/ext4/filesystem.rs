//! What every filesystem has besides its files: journal, bitmaps, group descriptors, superblocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use super::BLOCK;
use super::allocate::{Allocator, Run};
use super::extents::{self, Extent, Map};
use super::geometry::Geometry;
use super::inode::{Content, Inode, InodeSeed, JOURNAL_INODE, Time, journal_superblock};
use super::superblock::{self, Descriptor, Free, Identity};
use crate::rootfs::crc32c::crc32c;
use crate::rootfs::linux::FileType;

impl Identity {
    /// A new identity, different from every other.
    pub(super) fn random() -> io::Result<Self> {
        let (mut uuid, mut hash_seed) = ([0; 16], [0; 16]);
        getrandom::fill(&mut uuid).and_then(|()| getrandom::fill(&mut hash_seed)).map_err(io::Error::other)?;
        // Version 4, variant 1: a random identifier says so.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let created =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        Ok(Identity { uuid, hash_seed, created })
    }
}

/// Which inodes are taken: all up to a number, and so many of each group for directories.
pub(super) struct Inodes {
    last: u32,
    directories: Vec<u16>,
}

impl Inodes {
    /// Reserves the inodes up to `last`.
    pub(super) fn up_to(last: u32, geometry: &Geometry) -> Self {
        Inodes { last, directories: vec![0; geometry.groups as usize] }
    }

    pub(super) fn add_directory(&mut self, number: u32, geometry: &Geometry) {
        self.directories[(u64::from(number - 1) / geometry.inodes_per_group) as usize] += 1;
    }
}

/// A filesystem in a sparse file that reads as zeroes where nothing has been written.
pub(super) struct Filesystem<'f> {
    pub(super) file: &'f File,
    pub(super) geometry: &'f Geometry,
    pub(super) identity: &'f Identity,
    journal: Run,
}

impl<'f> Filesystem<'f> {
    /// Begins a filesystem by giving it its journal.
    pub(super) fn begin(
        file: &'f File,
        geometry: &'f Geometry,
        identity: &'f Identity,
    ) -> io::Result<(Self, Allocator<'f>)> {
        let mut allocator = Allocator::new(geometry);
        // A geometry always leaves room for the journal in the first group.
        let journal = allocator.take(geometry.journal_blocks).ok_or(io::ErrorKind::StorageFull)?;
        let filesystem = Filesystem { file, geometry, identity, journal };
        file.write_all_at(&journal_superblock(journal.length, identity), journal.start * BLOCK)?;
        Ok((filesystem, allocator))
    }

    fn journal_inode(&self, map: Map) -> Inode {
        Inode {
            number: JOURNAL_INODE,
            mode: FileType::Regular.mode_bits() | 0o600,
            uid: 0,
            gid: 0,
            links: 1,
            time: Time::nearest(self.identity.created.into(), 0),
            size: self.journal.length * BLOCK,
            blocks: self.journal.length,
            content: Content::Extents(map),
            xattr_block: 0,
        }
    }

    fn journal_map(&self) -> io::Result<Map> {
        let seed = InodeSeed::of(JOURNAL_INODE, self.identity);
        let extent = Extent { logical: 0, run: self.journal };
        extents::build(&[extent], seed, |_| Err(io::Error::from(io::ErrorKind::StorageFull)))
    }

    /// Writes what says which blocks and inodes are in use: all that were allocated.
    pub(super) fn finish(&self, allocator: &Allocator<'_>, inodes: &Inodes) -> io::Result<()> {
        let mut descriptors = Vec::new();
        let mut free = Free { blocks: 0, inodes: 0 };
        for group in 0..self.geometry.groups {
            let descriptor = self.finish_group(group, allocator.next(), inodes)?;
            free.blocks += descriptor.free_blocks;
            free.inodes += descriptor.free_inodes;
            descriptors.extend(descriptor.encode(group, self.identity.checksum_seed()));
        }
        let journal_map = self.journal_map()?;
        self.file.write_all_at(
            &self.journal_inode(journal_map).encode(self.identity),
            self.geometry.inode_position(JOURNAL_INODE),
        )?;
        for group in (0..self.geometry.groups).filter(|group| Geometry::has_superblock(*group)) {
            let superblock = superblock::encode(self.geometry, self.identity, &free, &journal_map, group);
            let start = Geometry::group_start(group) * BLOCK;
            // The very first superblock leaves room for a boot sector.
            let offset = if group == 0 { 1024 } else { 0 };
            self.file.write_all_at(&superblock, start + offset)?;
            self.file.write_all_at(&descriptors, start + BLOCK)?;
        }
        Ok(())
    }

    /// Writes the bitmaps of a group that Linux could not compute itself, and describes the group.
    fn finish_group(&self, group: u64, next_block: u64, inodes: &Inodes) -> io::Result<Descriptor> {
        let geometry = self.geometry;
        let tables = geometry.tables(group);
        let blocks = geometry.group_blocks(group);
        let allocated = next_block.saturating_sub(Geometry::group_start(group)).min(blocks);
        let used_blocks = allocated.max(geometry.used_blocks(group));
        let before = group * geometry.inodes_per_group;
        let used_inodes = u64::from(inodes.last).saturating_sub(before).min(geometry.inodes_per_group);
        let mut descriptor = Descriptor {
            tables,
            free_blocks: blocks - used_blocks,
            free_inodes: geometry.inodes_per_group - used_inodes,
            directories: inodes.directories[group as usize],
            block_bitmap_checksum: None,
            inode_bitmap_checksum: None,
        };
        // Linux itself knows of the superblock in a group and nothing else, and of no group shorter than the others.
        if used_blocks > geometry.header_blocks(group) || group + 1 == geometry.groups {
            let bitmap = bitmap(used_blocks, blocks);
            self.file.write_all_at(&bitmap, tables.block_bitmap * BLOCK)?;
            descriptor.block_bitmap_checksum = Some(self.checksum(&bitmap));
        }
        if used_inodes > 0 {
            let bitmap = bitmap(used_inodes, geometry.inodes_per_group);
            self.file.write_all_at(&bitmap, tables.inode_bitmap * BLOCK)?;
            descriptor.inode_bitmap_checksum = Some(self.checksum(&bitmap[..geometry.inodes_per_group as usize / 8]));
        }
        Ok(descriptor)
    }

    fn checksum(&self, bitmap: &[u8]) -> u16 {
        crc32c(self.identity.checksum_seed(), bitmap) as u16
    }
}

/// A bitmap block whose first `used` bits are set, and all from `count` on, which stand for nothing.
fn bitmap(used: u64, count: u64) -> [u8; BLOCK as usize] {
    let mut bitmap = [0; BLOCK as usize];
    for (index, byte) in bitmap.iter_mut().enumerate() {
        let first = index as u64 * 8;
        *byte = match first + 8 {
            end if end <= used || first >= count => 0xff,
            end if first >= used && end <= count => 0,
            _ => (0..8).filter(|bit| first + bit < used || first + bit >= count).map(|bit| 1 << bit).sum(),
        };
    }
    bitmap
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bitmaps_mark_what_is_used_and_what_is_not_there(used in 0u64..=32768, spare in 0u64..=32768) {
            let count = (used + spare).min(32768);
            let bitmap = bitmap(used, count);
            for bit in 0..32768 {
                let is_set = bitmap[bit as usize / 8] >> (bit % 8) & 1 == 1;
                prop_assert_eq!(is_set, bit < used || bit >= count);
            }
        }
    }
}
