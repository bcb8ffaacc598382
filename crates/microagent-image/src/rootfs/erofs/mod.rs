//! The merged tree as an EROFS image: read-only, mountable by any Linux since 5.15, identical for identical layers.
//!
//! ```text
//! block 0   superblock
//! block 1   data: files, symbolic links and directories in the order of the walk
//! ...       metadata: 64-byte inodes in 32-byte slots, each followed by its attributes and its tail or chunk map
//! ```
//!
//! Nothing is compressed: the image is what every guest of this image maps at once, and pages should come from the host's
//! cache as they are.

mod chunks;
mod directory;
mod format;
mod plan;
mod xattr;

use std::fs::File;
use std::ops::ControlFlow;

use super::Error;
use super::content::Content;
use super::linux::device_number;
use super::output::{Observer, Output, Written};
use super::tree::{Body, Node, NodeId, Tree, Walk};
use chunks::Chunks;
use directory::Target;
use format::{BLOCK, Inode, Superblock};
use plan::{Plan, Shape};

/// Writes `tree` as an EROFS image into the empty file `output`.
///
/// Modes, owners, times to the nanosecond, extended attributes, hard links, devices and holes are kept exactly. The same
/// layers give the same bytes.
pub fn write_erofs(tree: &Tree, output: &File) -> Result<Written, Error> {
    write_erofs_observed(tree, output, &mut |_| ControlFlow::Continue(()))
}

/// [`write_erofs`], telling `observer` of every stretch written.
pub fn write_erofs_observed(tree: &Tree, output: &File, observer: &mut Observer<'_>) -> Result<Written, Error> {
    let walk = Walk::of(tree);
    let plan = Plan::of(tree, &walk)?;
    let mut image = Image { tree, walk: &walk, plan: &plan, output: Output::new(output, observer) };
    image.write()?;
    Ok(Written { bytes: image.output.position(), inexact_times: 0 })
}

struct Image<'t, 'a> {
    tree: &'t Tree,
    walk: &'t Walk,
    plan: &'t Plan,
    output: Output<'a>,
}

impl Image<'_, '_> {
    fn write(&mut self) -> Result<(), Error> {
        self.output.write(&self.superblock().encode_block())?;
        for id in self.walk.order() {
            self.write_data(*id)?;
        }
        for (number, id) in self.walk.order().iter().enumerate() {
            self.write_inode(*id, number as u32 + 1)?;
        }
        self.output.pad_to(u64::from(self.plan.blocks) * BLOCK)?;
        self.output.flush()
    }

    fn superblock(&self) -> Superblock {
        Superblock {
            root: self.plan.nid(NodeId::ROOT) as u16,
            inodes: self.walk.order().len() as u64,
            blocks: self.plan.blocks,
            metadata_block: self.plan.metadata_block,
            has_chunks: self.plan.has_chunks,
        }
    }

    /// Writes what of a node's data stands in blocks of its own.
    fn write_data(&mut self, id: NodeId) -> Result<(), Error> {
        let node = self.tree.node(id);
        let shape = Shape::of(self.tree, node);
        if shape.blocks == 0 {
            return Ok(());
        }
        let length = shape.size.min(shape.blocks * BLOCK);
        match &node.body {
            Body::File { layer, content: Content::Dense { source }, .. } => {
                self.output.copy(self.tree.layer(*layer), *source, length)?;
            }
            Body::File { layer, size, content: Content::Sparse(extents) } => {
                Chunks::of(*size).write(extents, self.tree.layer(*layer), &mut self.output)?;
            }
            Body::Directory(_) => self.output.write(&self.directory(id)[..length as usize])?,
            Body::Symlink(target) => self.output.write(&target[..length as usize])?,
            Body::CharDevice { .. } | Body::BlockDevice { .. } | Body::Fifo | Body::PendingLink(_) => {}
        }
        self.output.pad_to((u64::from(self.plan.block(id)) + shape.blocks) * BLOCK)
    }

    fn write_inode(&mut self, id: NodeId, number: u32) -> Result<(), Error> {
        let node = self.tree.node(id);
        let shape = Shape::of(self.tree, node);
        self.output.pad_to(self.plan.inode_position(id))?;
        self.output.write(&self.inode(id, node, &shape, number).encode())?;
        self.output.write(&xattr::encode(self.tree.xattrs(node)))?;
        if shape.trailer == 0 {
            return Ok(());
        }
        let start = shape.blocks * BLOCK;
        match &node.body {
            Body::File { layer, content: Content::Dense { source }, .. } => {
                self.output.copy(self.tree.layer(*layer), source + start, shape.trailer)
            }
            Body::File { size, content: Content::Sparse(extents), .. } => {
                self.output.write(&Chunks::of(*size).map(extents, self.plan.block(id)))
            }
            Body::Directory(_) => self.output.write(&self.directory(id)[start as usize..]),
            Body::Symlink(target) => self.output.write(&target[start as usize..]),
            Body::CharDevice { .. } | Body::BlockDevice { .. } | Body::Fifo | Body::PendingLink(_) => Ok(()),
        }
    }

    fn inode(&self, id: NodeId, node: &Node, shape: &Shape, number: u32) -> Inode {
        let data = match &node.body {
            Body::CharDevice { major, minor } | Body::BlockDevice { major, minor } => device_number(*major, *minor),
            Body::File { size, content: Content::Sparse(_), .. } => Chunks::of(*size).format(),
            _ if shape.blocks == 0 => 0,
            _ => self.plan.block(id),
        };
        Inode {
            layout: shape.layout,
            file_type: shape.file_type,
            mode: node.attributes.mode,
            size: shape.size,
            data,
            number,
            uid: node.attributes.uid,
            gid: node.attributes.gid,
            mtime: node.attributes.mtime,
            mtime_nanos: node.attributes.mtime_nanos,
            link_count: self.walk.link_count(id),
            xattr_size: shape.xattr_size,
        }
    }

    fn directory(&self, id: NodeId) -> Vec<u8> {
        let Some(children) = self.tree.node(id).children() else {
            return Vec::new();
        };
        directory::encode(children, |name| {
            let target = match name {
                b"." => id,
                b".." => self.walk.parent(id),
                name => children.get(name).copied().unwrap_or(id),
            };
            let file_type = self.tree.node(target).file_type();
            Target { nid: u64::from(self.plan.nid(target)), file_type }
        })
    }
}
