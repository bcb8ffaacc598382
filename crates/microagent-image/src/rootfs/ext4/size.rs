//! How large an ext4 image of a tree has to be.

use super::BLOCK;
use crate::rootfs::Error;
use crate::rootfs::content::Content;
use crate::rootfs::tree::{Body, Node, Tree, Walk};

/// The smallest journal Linux accepts: a root filesystem is mostly read.
pub(super) const JOURNAL_BLOCKS: u32 = 1024;

const BLOCKS_PER_GROUP: u64 = 8 * BLOCK;
const INODES_PER_GROUP: u64 = 8 * BLOCK;
const INODES_PER_BLOCK: u64 = BLOCK / 256;

/// Bytes of a disk for each inode, where the disk is larger than the tree needs.
const BYTES_PER_INODE: u64 = 16 << 10;

/// Inodes and blocks beyond what the tree takes, so that the image can be worked in a little.
const SPARE_INODES: u64 = 1024;
const SPARE_BLOCKS: u64 = 4096;

/// Longest target kept in the inode of a symbolic link.
const FAST_SYMLINK: usize = 59;

/// What a last group must have to be of use: an inode table of full size, bitmaps, a copy of the descriptors, and data.
const LEAST_GROUP: u64 = 4096;

/// An image's measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Length of the file.
    pub(super) bytes: u64,
    pub(super) blocks: u32,
    pub(super) inodes: u32,
}

impl Size {
    /// The size asked for, in bytes, or one the tree fits in.
    pub(super) fn of(tree: &Tree, walk: &Walk, asked: Option<u64>) -> Result<Self, Error> {
        let content = walk.order().iter().map(|id| content_blocks(tree, tree.node(*id))).sum::<u64>();
        let nodes = walk.order().len() as u64;
        let least = with_metadata(content, nodes + SPARE_INODES);
        let spared = nodes + SPARE_INODES;
        let Some(bytes) = asked else {
            return Self::new(least * BLOCK, least, spared);
        };
        let blocks = without_short_group(bytes / BLOCK);
        if blocks < least {
            return Err(Error::TooSmall { format: "ext4", size: bytes, needed: least * BLOCK });
        }
        // More inodes than a small disk can describe beside the tree's content are not to be had.
        let usual = blocks * BLOCK / BYTES_PER_INODE;
        let inodes = if with_metadata(content, usual) <= blocks { usual.max(spared) } else { spared };
        Self::new(bytes, blocks, inodes)
    }

    fn new(bytes: u64, blocks: u64, inodes: u64) -> Result<Self, Error> {
        match (u32::try_from(blocks), u32::try_from(inodes)) {
            (Ok(blocks), Ok(inodes)) => Ok(Size { bytes, blocks, inodes }),
            _ => Err(Error::TooLarge { format: "ext4", size: bytes, limit: u64::from(u32::MAX) * BLOCK }),
        }
    }
}

/// Blocks of a filesystem that holds `content` blocks and `inodes` inodes.
fn with_metadata(content: u64, inodes: u64) -> u64 {
    let fixed = content + content / 64 + inodes.div_ceil(INODES_PER_BLOCK) + u64::from(JOURNAL_BLOCKS) + SPARE_BLOCKS;
    let groups = (fixed.div_ceil(BLOCKS_PER_GROUP - 64)).max(inodes.div_ceil(INODES_PER_GROUP - 8));
    // Each group has two bitmaps, rounds its inode table up, and may hold a superblock with all descriptors.
    let per_group = 4 + 1 + (groups * 32).div_ceil(BLOCK);
    let blocks = fixed + groups * per_group;
    let blocks = if groups > 1 { blocks.max((groups - 1) * BLOCKS_PER_GROUP + LEAST_GROUP) } else { blocks };
    let short = blocks % BLOCKS_PER_GROUP;
    let filled = if is_short(blocks) { blocks - short + LEAST_GROUP } else { blocks };
    filled.next_multiple_of(8)
}

fn is_short(blocks: u64) -> bool {
    blocks > BLOCKS_PER_GROUP && (1..LEAST_GROUP).contains(&(blocks % BLOCKS_PER_GROUP))
}

/// `blocks` without a last group too short to be of use.
fn without_short_group(blocks: u64) -> u64 {
    if is_short(blocks) { blocks - blocks % BLOCKS_PER_GROUP } else { blocks / 8 * 8 }
}

/// Blocks outside the inode that a node takes.
fn content_blocks(tree: &Tree, node: &Node) -> u64 {
    let data = match &node.body {
        Body::Directory(children) => {
            // An indexed directory's blocks are filled to seven eighths, and its index takes one block in 500.
            let bytes: u64 = children.keys().map(|name| (8 + name.len() as u64).next_multiple_of(4)).sum();
            (bytes + bytes / 3).div_ceil(BLOCK - 300) + 2
        }
        Body::File { size, content: Content::Dense { .. }, .. } => mapped(size.div_ceil(BLOCK), 1),
        Body::File { content: Content::Sparse(extents), .. } => {
            let blocks = extents.iter().map(|extent| extent.end().div_ceil(BLOCK) - extent.start / BLOCK).sum();
            mapped(blocks, extents.len() as u64)
        }
        Body::Symlink(target) => u64::from(target.len() > FAST_SYMLINK),
        Body::CharDevice { .. } | Body::BlockDevice { .. } | Body::Fifo | Body::PendingLink(_) => 0,
    };
    data + u64::from(!tree.xattrs(node).is_empty())
}

/// `blocks` in `pieces`, with the extent tree they need: a piece is split at every group, and holes of zeroes split more.
fn mapped(blocks: u64, pieces: u64) -> u64 {
    const EXTENTS_PER_BLOCK: u64 = 300;
    blocks + (pieces + blocks / 2).div_ceil(EXTENTS_PER_BLOCK) * u64::from(blocks > 4)
}
