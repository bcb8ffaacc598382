//! The merged tree as an ext4 image.
//!
//! Nodes get inode numbers in the order of the walk, so directories can be written before what is in them. Each node's
//! data is written where the allocator has come to, then its block map, then its attributes, then its inode; nothing is
//! kept in memory but numbers.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use super::BLOCK;
use super::allocate::{Allocator, Run};
use super::directory::{self, Entry};
use super::extents::{self, Extent, Map};
use super::filesystem::{Filesystem, Inodes};
use super::geometry::Geometry;
use super::inode::{FIRST_FREE_INODE, Inode, InodeSeed, ROOT_INODE, Time};
use super::superblock::Identity;
use super::{inode, xattr};
use crate::rootfs::Error;
use crate::rootfs::content::Content;
use crate::rootfs::error::printable;
use crate::rootfs::linux::device_number;
use crate::rootfs::output::{Observer, Output, SparseBlocks, Written};
use crate::rootfs::tree::{Body, Node, NodeId, Tree, Walk, XattrsId};

/// The most names a file can have. A directory with more subdirectories says it has one name, which means "many".
const LINKS_MAX: u32 = 65_000;

/// Targets shorter than this are kept in the inode of a symbolic link.
const SLOW_SYMLINK: usize = 60;

/// Blocks left free in an image whose size is ours to choose.
const SPARE_BLOCKS: u64 = 1024;

/// Creates or replaces the file at `path` by an ext4 image of `tree`, `size` bytes long or as long as it takes.
///
/// Kept exactly are modes, owners, times to the nanosecond, attributes, hard links, devices and holes. Times outside the
/// years 1901 to 2446 become the nearest ext4 can hold; [`Written::inexact_times`] counts them. The image has a random
/// identity, so that no two are mistaken for each other when mounted.
pub fn write_ext4(tree: &Tree, path: &Path, size: Option<u64>) -> Result<Written, Error> {
    write_ext4_observed(tree, path, size, &mut |_| ControlFlow::Continue(()))
}

/// [`write_ext4`], telling `observer` of every stretch written.
pub fn write_ext4_observed(
    tree: &Tree,
    path: &Path,
    size: Option<u64>,
    observer: &mut Observer<'_>,
) -> Result<Written, Error> {
    let walk = Walk::of(tree);
    let geometry = geometry(tree, &walk, size)?;
    let bytes = size.unwrap_or(geometry.blocks * BLOCK);
    let identity = Identity::random().map_err(write_failed)?;
    let file = File::options().write(true).create(true).truncate(true).open(path).map_err(write_failed)?;
    file.set_len(bytes).map_err(write_failed)?;
    let (filesystem, allocator) = Filesystem::begin(&file, &geometry, &identity).map_err(write_failed)?;
    let mut unobserved = |_| ControlFlow::Continue(());
    let mut image = Image {
        tree,
        walk: &walk,
        filesystem: &filesystem,
        allocator,
        numbers: numbers(tree, &walk),
        data: Output::new(&file, observer),
        inodes: Output::new(&file, &mut unobserved),
        xattrs: XattrBlocks::of(tree, &walk),
        inexact_times: 0,
    };
    let inodes = image.write()?;
    filesystem.finish(&image.allocator, &inodes).map_err(write_failed)?;
    Ok(Written { bytes, inexact_times: image.inexact_times })
}

fn write_failed(source: std::io::Error) -> Error {
    Error::Write { what: "the ext4 image", source }
}

/// Inode numbers by node; 0 for nodes that are not reachable.
fn numbers(tree: &Tree, walk: &Walk) -> Vec<u32> {
    let mut numbers = vec![0; tree.node_count()];
    for (number, id) in (FIRST_FREE_INODE - 1..).zip(walk.order()) {
        numbers[id.index()] = number;
    }
    numbers[NodeId::ROOT.index()] = ROOT_INODE;
    numbers
}

/// The least bytes that hold `tree` and leave a little room.
pub(in crate::rootfs) fn least_size(tree: &Tree) -> Result<u64, Error> {
    Ok(geometry(tree, &Walk::of(tree), None)?.blocks * BLOCK)
}

/// Measures that hold the tree, within `size` if that is given.
fn geometry(tree: &Tree, walk: &Walk, size: Option<u64>) -> Result<Geometry, Error> {
    let content = content_blocks(tree, walk)?;
    let inodes = walk.order().len() as u64 + u64::from(FIRST_FREE_INODE);
    let Some(size) = size else {
        return Geometry::holding(content + SPARE_BLOCKS, inodes);
    };
    match Geometry::of(size, inodes) {
        Ok(geometry) if geometry.capacity() >= content && geometry.inodes() >= inodes => Ok(geometry),
        Ok(_) | Err(Error::TooSmall { .. }) => {
            let needed = Geometry::holding(content, inodes)?.blocks * BLOCK;
            Err(Error::TooSmall { format: "ext4", size, needed })
        }
        Err(error) => Err(error),
    }
}

/// Blocks that the tree takes at most, once it is known that ext4 can hold it.
fn content_blocks(tree: &Tree, walk: &Walk) -> Result<u64, Error> {
    let mut blocks = 0;
    let mut sets = HashSet::new();
    for id in walk.order() {
        let node = tree.node(*id);
        blocks += node_blocks(node);
        let refuse = |reason| unrepresentable(tree, walk, *id, reason);
        if node.children().is_none() && walk.link_count(*id) > LINKS_MAX {
            return Err(refuse("it has more than 65,000 names"));
        }
        if sets.insert(node.attributes.xattrs) {
            xattr::encode(tree.xattrs(node)).map_err(refuse)?;
        }
    }
    // A set has a block of its own and one more for every so many sharers.
    Ok(blocks + sets.len() as u64 + walk.order().len() as u64 / u64::from(xattr::SHARED_MAX))
}

fn unrepresentable(tree: &Tree, walk: &Walk, id: NodeId, reason: &'static str) -> Error {
    Error::Unrepresentable { path: printable(&walk.path_of(tree, id)), format: "ext4", reason }
}

/// Blocks that a node's data and block map take at most.
fn node_blocks(node: &Node) -> u64 {
    let (blocks, pieces) = match &node.body {
        Body::Directory(children) => (directory::blocks(children.keys().map(|name| &**name)), 1),
        Body::File { size, content: Content::Dense { .. }, .. } => (size.div_ceil(BLOCK), 1),
        Body::File { content: Content::Sparse(extents), .. } => {
            let blocks = extents.iter().map(|extent| extent.end().div_ceil(BLOCK) - extent.start / BLOCK).sum();
            (blocks, extents.len() as u64)
        }
        Body::Symlink(target) => (u64::from(target.len() >= SLOW_SYMLINK), 1),
        Body::CharDevice { .. } | Body::BlockDevice { .. } | Body::Fifo | Body::PendingLink(_) => (0, 0),
    };
    // Metadata in the way splits a piece once in half a group at most.
    blocks + extents::tree_blocks(pieces + blocks / (extents::EXTENT_MAX / 4) + 2)
}

/// Blocks of attributes written so far, and how many more inodes will share each.
struct XattrBlocks {
    /// Inodes with each set that have no block yet.
    waiting: HashMap<XattrsId, u32>,
    /// The block last written for each set and the inodes still to share it.
    open: HashMap<XattrsId, (u64, u32)>,
}

impl XattrBlocks {
    fn of(tree: &Tree, walk: &Walk) -> Self {
        let mut waiting = HashMap::new();
        for id in walk.order() {
            *waiting.entry(tree.node(*id).attributes.xattrs).or_insert(0) += 1;
        }
        XattrBlocks { waiting, open: HashMap::new() }
    }
}

struct Image<'t, 'a> {
    tree: &'t Tree,
    walk: &'t Walk,
    filesystem: &'t Filesystem<'a>,
    allocator: Allocator<'a>,
    numbers: Vec<u32>,
    data: Output<'a>,
    inodes: Output<'a>,
    xattrs: XattrBlocks,
    inexact_times: u64,
}

impl Image<'_, '_> {
    fn write(&mut self) -> Result<Inodes, Error> {
        let geometry = self.filesystem.geometry;
        let last = self.numbers.iter().copied().max().unwrap_or(0).max(FIRST_FREE_INODE - 1);
        let mut inodes = Inodes::up_to(last, geometry);
        for id in self.walk.order() {
            let number = self.numbers[id.index()];
            if self.tree.node(*id).children().is_some() {
                inodes.add_directory(number, geometry);
            }
            let inode = self.write_node(*id)?;
            self.inodes.move_to(geometry.inode_position(number))?;
            self.inodes.write(&inode.encode(self.filesystem.identity))?;
        }
        self.data.flush()?;
        self.inodes.flush()?;
        Ok(inodes)
    }

    /// Writes all of a node but its inode, which it returns.
    fn write_node(&mut self, id: NodeId) -> Result<Inode, Error> {
        let node = self.tree.node(id);
        let attributes = &node.attributes;
        let number = self.numbers[id.index()];
        let (content, size, mut blocks) = self.write_content(id, node)?;
        let xattr_block = self.write_xattrs(id, node)?;
        blocks += u64::from(xattr_block != 0);
        let time = Time::nearest(attributes.mtime, attributes.mtime_nanos);
        self.inexact_times += u64::from((time.seconds, time.nanoseconds) != (attributes.mtime, attributes.mtime_nanos));
        let links = self.walk.link_count(id);
        Ok(Inode {
            number,
            mode: node.file_type().mode_bits() | attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            links: if links > LINKS_MAX { 1 } else { links as u16 },
            time,
            size,
            blocks,
            content,
            xattr_block,
        })
    }

    /// Writes a node's data. Returns what its inode says of it, its size, and the blocks it takes.
    fn write_content(&mut self, id: NodeId, node: &Node) -> Result<(inode::Content, u64, u64), Error> {
        match &node.body {
            Body::Directory(_) => self.write_bytes(id, &self.directory(id)),
            Body::Symlink(target) if target.len() >= SLOW_SYMLINK => self.write_bytes(id, target),
            Body::Symlink(target) => {
                let mut map = Map::from([0; 60]);
                map[..target.len()].copy_from_slice(target);
                Ok((inode::Content::Direct(map), target.len() as u64, 0))
            }
            Body::File { layer, size, content: Content::Dense { source } } => {
                let layer = self.tree.layer(*layer);
                self.write_pieces(id, *size, [(0, size.div_ceil(BLOCK))], |data, start, end| {
                    data.copy(layer, source + start, end.min(*size) - start)
                })
            }
            Body::File { layer, size, content: Content::Sparse(extents) } => {
                let mut blocks = SparseBlocks::new(self.tree.layer(*layer), extents);
                let pieces = occupied(extents);
                self.write_pieces(id, *size, pieces, |data, start, end| blocks.copy(start, end, data))
            }
            Body::CharDevice { major, minor } | Body::BlockDevice { major, minor } => {
                Ok((inode::Content::Direct(device_map(*major, *minor)), 0, 0))
            }
            Body::Fifo | Body::PendingLink(_) => Ok((inode::Content::Direct([0; 60]), 0, 0)),
        }
    }

    fn write_bytes(&mut self, id: NodeId, bytes: &[u8]) -> Result<(inode::Content, u64, u64), Error> {
        let size = bytes.len() as u64;
        self.write_pieces(id, size, [(0, size.div_ceil(BLOCK))], |data, start, end| {
            data.write(&bytes[start as usize..end.min(size) as usize])
        })
    }

    /// Writes `pieces` of a file, given in blocks as first and end; `copy` writes the bytes between two positions.
    fn write_pieces(
        &mut self,
        id: NodeId,
        size: u64,
        pieces: impl IntoIterator<Item = (u64, u64)>,
        mut copy: impl FnMut(&mut Output<'_>, u64, u64) -> Result<(), Error>,
    ) -> Result<(inode::Content, u64, u64), Error> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut blocks = 0;
        for (mut logical, end) in pieces {
            while logical < end {
                let run = self.take((end - logical).min(extents::EXTENT_MAX))?;
                self.data.move_to(run.start * BLOCK)?;
                copy(&mut self.data, logical * BLOCK, (logical + run.length) * BLOCK)?;
                extents::push(&mut extents, logical, run);
                logical += run.length;
                blocks += run.length;
            }
        }
        let seed = InodeSeed::of(self.numbers[id.index()], self.filesystem.identity);
        let map = extents::build(&extents, seed, |block| {
            blocks += 1;
            self.place(&block)
        })?;
        Ok((inode::Content::Extents(map), size, blocks))
    }

    fn take(&mut self, length: u64) -> Result<Run, Error> {
        // The geometry was chosen to hold everything, so a full disk would be a mistake in reckoning.
        self.allocator.take(length).ok_or_else(|| write_failed(std::io::ErrorKind::StorageFull.into()))
    }

    fn place(&mut self, block: &[u8; BLOCK as usize]) -> Result<u64, Error> {
        let run = self.take(1)?;
        self.data.move_to(run.start * BLOCK)?;
        self.data.write(block)?;
        Ok(run.start)
    }

    /// The block of a node's attributes, written if no earlier one can be shared; 0 if it has none.
    fn write_xattrs(&mut self, id: NodeId, node: &Node) -> Result<u64, Error> {
        let set = node.attributes.xattrs;
        if set == XattrsId::NONE {
            return Ok(0);
        }
        if let Some((block, sharers @ 1..)) = self.xattrs.open.get_mut(&set) {
            *sharers -= 1;
            return Ok(*block);
        }
        let waiting = self.xattrs.waiting.entry(set).or_insert(1);
        let sharers = (*waiting).min(xattr::SHARED_MAX);
        *waiting -= sharers;
        let run = self.take(1)?;
        let refuse = |reason| unrepresentable(self.tree, self.walk, id, reason);
        let mut block = xattr::encode(self.tree.xattrs(node)).map_err(refuse)?;
        xattr::seal(&mut block, run.start, sharers, self.filesystem.identity);
        self.data.move_to(run.start * BLOCK)?;
        self.data.write(&block)?;
        self.xattrs.open.insert(set, (run.start, sharers - 1));
        Ok(run.start)
    }

    fn directory(&self, id: NodeId) -> Vec<u8> {
        let entry = |name, id: NodeId| Entry {
            name,
            inode: self.numbers[id.index()],
            file_type: self.tree.node(id).file_type(),
        };
        let dots = [entry(&b"."[..], id), entry(b"..", self.walk.parent(id))];
        let children = self.tree.node(id).children().into_iter().flatten();
        let children = children.map(|(name, child)| entry(name, *child));
        let seed = InodeSeed::of(self.numbers[id.index()], self.filesystem.identity);
        directory::encode(dots.into_iter().chain(children), seed)
    }
}

/// The blocks that hold data of a sparse file, as first and end, merged where they meet.
fn occupied(extents: &[crate::rootfs::content::Extent]) -> Vec<(u64, u64)> {
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    for extent in extents {
        let (first, end) = (extent.start / BLOCK, extent.end().div_ceil(BLOCK));
        match pieces.last_mut() {
            Some(last) if last.1 >= first => last.1 = end,
            _ => pieces.push((first, end)),
        }
    }
    pieces
}

/// A device number: 16 bits in the first word where that is enough, else 32 in the second.
fn device_map(major: u32, minor: u32) -> Map {
    let mut map = [0; 60];
    if major < 256 && minor < 256 {
        map[0..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
    } else {
        map[4..8].copy_from_slice(&device_number(major, minor).to_le_bytes());
    }
    map
}
