//! A blank disk: an empty, journalled ext4 filesystem in a sparse file.
//!
//! Only what describes something is written: superblocks and descriptors, one block bitmap for each sixteen groups, one
//! block of inodes, two directories and the journal's header.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use super::BLOCK;
use super::geometry::{BLOCKS_PER_GROUP, Geometry, INODE_SIZE};
use super::inode::{
    FIRST_FREE_INODE, Inode, JOURNAL_INODE, LOST_AND_FOUND_INODE, ROOT_INODE, directory_block, journal_superblock,
};
use super::superblock::{self, Descriptor, Free, Identity};
use crate::rootfs::Error;
use crate::rootfs::crc32c::crc32c;

/// Creates or replaces the file at `path` by a blank ext4 filesystem of `size` bytes.
///
/// The file is sparse: a 10 GiB disk takes about 0.1 MB. It has a journal, 256-byte inodes (nanosecond times, dates past
/// 2038), metadata checksums, and a random identity. The least size is 16 MiB, the most 16 TiB.
pub fn format_blank_ext4(path: &Path, size: u64) -> Result<(), Error> {
    let geometry = Geometry::of(size)?;
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| write_failed(io::Error::other(error)))?;
    let identity = Identity::new(random, SystemTime::now());
    let file = File::options().write(true).create(true).truncate(true).open(path).map_err(write_failed)?;
    file.set_len(size).map_err(write_failed)?;
    Blank { geometry, identity }.write(&file).map_err(write_failed)
}

fn write_failed(source: io::Error) -> Error {
    Error::Write { what: "the blank disk", source }
}

impl Identity {
    fn new(random: [u8; 32], now: SystemTime) -> Self {
        let (mut uuid, mut hash_seed) = ([0; 16], [0; 16]);
        uuid.copy_from_slice(&random[..16]);
        hash_seed.copy_from_slice(&random[16..]);
        // Version 4, variant 1: a random identifier says so.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let created = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        Identity { uuid, hash_seed, created }
    }
}

struct Blank {
    geometry: Geometry,
    identity: Identity,
}

impl Blank {
    fn root(&self) -> Inode {
        let first_block = self.geometry.used_blocks(0);
        Inode { number: ROOT_INODE, mode: 0o040_755, links: 3, first_block, blocks: 1 }
    }

    fn lost_and_found(&self) -> Inode {
        let first_block = self.root().first_block + 1;
        Inode { number: LOST_AND_FOUND_INODE, mode: 0o040_700, links: 2, first_block, blocks: 1 }
    }

    fn journal(&self) -> Inode {
        let first_block = self.lost_and_found().first_block + 1;
        let blocks = self.geometry.journal_blocks;
        Inode { number: JOURNAL_INODE, mode: 0o100_600, links: 1, first_block, blocks }
    }

    /// Blocks in use at the start of a group.
    fn used_blocks(&self, group: u64) -> u64 {
        let journal = self.journal();
        if group == 0 { journal.first_block + journal.blocks } else { self.geometry.used_blocks(group) }
    }

    fn write(&self, file: &File) -> io::Result<()> {
        self.write_files(file)?;
        let mut descriptors = Vec::new();
        let mut free = Free { blocks: 0, inodes: 0 };
        for group in 0..self.geometry.groups {
            let descriptor = self.write_group(file, group)?;
            free.blocks += descriptor.free_blocks;
            free.inodes += descriptor.free_inodes;
            descriptors.extend(descriptor.encode(group, self.identity.checksum_seed()));
        }
        for group in (0..self.geometry.groups).filter(|group| Geometry::has_superblock(*group)) {
            let superblock = superblock::encode(&self.geometry, &self.identity, &free, &self.journal().map(), group);
            let start = self.geometry.group_start(group) * BLOCK;
            // The very first superblock leaves room for a boot sector.
            let offset = if group == 0 { 1024 } else { 0 };
            file.write_all_at(&superblock, start + offset)?;
            file.write_all_at(&descriptors, start + BLOCK)?;
        }
        Ok(())
    }

    fn write_files(&self, file: &File) -> io::Result<()> {
        let (root, lost, journal) = (self.root(), self.lost_and_found(), self.journal());
        let in_root: [(&[u8], u32); 3] = [(b".", ROOT_INODE), (b"..", ROOT_INODE), (b"lost+found", LOST_AND_FOUND_INODE)];
        let in_lost: [(&[u8], u32); 2] = [(b".", LOST_AND_FOUND_INODE), (b"..", ROOT_INODE)];
        file.write_all_at(&directory_block(ROOT_INODE, &in_root, &self.identity), root.first_block * BLOCK)?;
        file.write_all_at(&directory_block(LOST_AND_FOUND_INODE, &in_lost, &self.identity), lost.first_block * BLOCK)?;
        file.write_all_at(&journal_superblock(journal.blocks, &self.identity), journal.first_block * BLOCK)?;
        let mut table = vec![0; (FIRST_FREE_INODE as usize) * INODE_SIZE as usize];
        for inode in [root, lost, journal] {
            let start = (inode.number as usize - 1) * INODE_SIZE as usize;
            table[start..start + INODE_SIZE as usize].copy_from_slice(&inode.encode(&self.identity));
        }
        file.write_all_at(&table, self.geometry.tables(0).inode_table * BLOCK)
    }

    /// Writes the bitmaps of a group that Linux could not compute itself, and describes the group.
    fn write_group(&self, file: &File, group: u64) -> io::Result<Descriptor> {
        let inodes = self.geometry.inodes_per_group;
        let tables = self.geometry.tables(group);
        let blocks = self.geometry.group_blocks(group);
        let used = self.used_blocks(group);
        let mut descriptor = Descriptor {
            block_bitmap: tables.block_bitmap,
            inode_bitmap: tables.inode_bitmap,
            inode_table: tables.inode_table,
            free_blocks: blocks - used,
            free_inodes: inodes,
            unused_inodes: inodes,
            ..Descriptor::default()
        };
        // Linux knows of no tables but a group's own, and of no group shorter than the others.
        if self.geometry.hosts_tables(group) || blocks < BLOCKS_PER_GROUP {
            let bitmap = bitmap(used, blocks);
            file.write_all_at(&bitmap, tables.block_bitmap * BLOCK)?;
            descriptor.block_bitmap_written = true;
            descriptor.block_bitmap_checksum = self.checksum(&bitmap);
        }
        if group == 0 {
            let used = u64::from(FIRST_FREE_INODE);
            let bitmap = bitmap(used, inodes);
            file.write_all_at(&bitmap, tables.inode_bitmap * BLOCK)?;
            descriptor.inode_bitmap_written = true;
            descriptor.inode_bitmap_checksum = self.checksum(&bitmap[..inodes as usize / 8]);
            descriptor.free_inodes = inodes - used;
            descriptor.unused_inodes = inodes - used;
            descriptor.directories = 2;
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
        for bit in 0..8 {
            let number = index as u64 * 8 + bit;
            if number < used || number >= count {
                *byte |= 1 << bit;
            }
        }
    }
    bitmap
}
