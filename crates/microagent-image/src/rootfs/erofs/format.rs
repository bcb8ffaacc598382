//! EROFS on disk: the structures of Linux's `fs/erofs/erofs_fs.h`, little-endian, that a plain uncompressed image needs.

use crate::rootfs::crc32c::crc32c;
use crate::rootfs::linux::FileType;

/// Unit of everything: 4 KiB, the page size of every guest.
pub(super) const BLOCK: u64 = 4096;
pub(super) const BLOCK_BITS: u8 = 12;

/// Inodes are found by number: their position in the metadata area in units of this.
pub(super) const SLOT: u64 = 32;

/// Inodes are written in the extended form, which alone has a time of its own and 32-bit owners.
pub(super) const INODE_SIZE: u64 = 64;

pub(super) const DIRENT_SIZE: usize = 12;

pub(super) const SUPERBLOCK_OFFSET: u64 = 1024;
const SUPERBLOCK_SIZE: usize = 128;
const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_CHUNKED_FILE: u32 = 4;

/// How an inode's data is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In consecutive blocks.
    Plain = 0,
    /// In consecutive blocks, the last part right behind the inode.
    Inline = 2,
    /// In chunks, each wherever the map behind the inode says.
    Chunked = 4,
}

/// Marks a chunk that is a hole.
pub(super) const HOLE: u32 = u32::MAX;

/// One inode.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) layout: Layout,
    pub(super) file_type: FileType,
    pub(super) mode: u16,
    pub(super) size: u64,
    /// First block of the data, the device number, or the chunk format: the layout and type say which.
    pub(super) data: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nanos: u32,
    pub(super) link_count: u32,
    /// Size of the attributes behind the inode.
    pub(super) xattr_size: u64,
}

impl Inode {
    pub(super) fn encode(&self) -> [u8; INODE_SIZE as usize] {
        const EXTENDED: u16 = 1;
        let mut bytes = [0; INODE_SIZE as usize];
        let mut fields = Fields(&mut bytes);
        fields.u16(0, EXTENDED | (self.layout as u16) << 1);
        fields.u16(2, xattr_count(self.xattr_size));
        fields.u16(4, self.file_type.mode_bits() | self.mode);
        fields.u64(8, self.size);
        fields.u32(16, self.data);
        fields.u32(20, self.number);
        fields.u32(24, self.uid);
        fields.u32(28, self.gid);
        fields.u64(32, self.mtime.cast_unsigned());
        fields.u32(40, self.mtime_nanos);
        fields.u32(44, self.link_count);
        bytes
    }
}

/// The attribute area's size as an inode states it: one for its 12-byte header, one more for every four bytes.
fn xattr_count(size: u64) -> u16 {
    if size == 0 { 0 } else { ((size - 12) / 4 + 1) as u16 }
}

/// What the superblock says of the image.
pub(super) struct Superblock {
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) metadata_block: u32,
    pub(super) has_chunks: bool,
}

impl Superblock {
    /// The image's first block. Identifiers and times are left zero: equal layers give equal bytes.
    pub(super) fn encode_block(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        let (start, end) = (SUPERBLOCK_OFFSET as usize, SUPERBLOCK_OFFSET as usize + SUPERBLOCK_SIZE);
        let mut fields = Fields(&mut block[start..end]);
        fields.u32(0, MAGIC);
        fields.u32(8, COMPAT_CHECKSUM | COMPAT_MTIME);
        fields.0[12] = BLOCK_BITS;
        fields.u16(14, self.root);
        fields.u64(16, self.inodes);
        fields.u32(36, self.blocks);
        fields.u32(40, self.metadata_block);
        fields.u32(80, if self.has_chunks { INCOMPAT_CHUNKED_FILE } else { 0 });
        let checksum = crc32c(!0, &block[start..]);
        Fields(&mut block[start..end]).u32(4, checksum);
        block
    }
}

/// Little-endian fields at fixed offsets.
struct Fields<'b>(&'b mut [u8]);

impl Fields<'_> {
    fn u16(&mut self, offset: usize, value: u16) {
        self.0[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, offset: usize, value: u64) {
        self.0[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_sizes_are_counted_as_linux_counts_them() {
        assert_eq!(xattr_count(0), 0);
        assert_eq!(xattr_count(12), 1);
        assert_eq!(xattr_count(16), 2);
    }
}
