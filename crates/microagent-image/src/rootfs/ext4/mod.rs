//! ext4, written in three ways: an image of a merged tree for kernels without EROFS, a blank disk for a workspace, and the same
//! blank disk made by the system's own `mke2fs`.
//!
//! Both of ours are written once, front to back, and never edited: blocks and inodes are handed out in order, so what is in
//! use in a group is always its beginning, and groups that nothing reached are marked as never initialised. That is why a
//! 10 GiB disk is made in half a millisecond and takes 0.1 MB. The library tried before, `fstool`, initialised every group
//! (80 ms and 8.7 MB for 64 GiB), stored the attributes of a file in an order in which Linux does not find them all, and
//! kept times to the second.
//!
//! A disk somebody else made is only looked at ([`probe_ext4`]), and no further than its superblock.
//!
//! Directories are not indexed: Linux reads them as well, and the images are of root filesystems, where directories of many
//! thousand names are rare.

mod allocate;
mod blank;
mod directory;
mod extents;
mod filesystem;
mod geometry;
mod inode;
mod mke2fs;
mod probe;
mod superblock;
mod tree;
mod xattr;

pub use blank::{format_blank_ext4, format_empty_ext4};
pub use mke2fs::format_with_mke2fs;
pub use probe::{Ext4Info, probe_ext4};
pub(super) use tree::least_size;
pub use tree::{write_ext4, write_ext4_observed};

/// Every ext4 filesystem written here has blocks of 4 KiB, so the superblock lies within the first and one bitmap block
/// describes 128 MiB.
const BLOCK: u64 = 4096;
