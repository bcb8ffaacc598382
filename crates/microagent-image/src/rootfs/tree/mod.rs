//! The filesystem an image's layers add up to: names and metadata in memory, file bytes left in the layers.
//!
//! Each layer is applied in two passes over its headers. The first finds whiteouts, which act on lower layers only and do
//! so wherever in the archive they stand; the second adds entries. The lowest layer, usually by far the largest, has
//! nothing beneath it to remove and is read once.
//!
//! Nodes live in one vector and refer to each other by index. A hard link is a second name of the same node, in whichever
//! layer it was made. Removed nodes stay in the vector, unreachable: the limit on entries bounds them.

mod layer;
mod links;
mod summary;
mod walk;
mod xattrs;

use std::collections::BTreeMap;
use std::fs::File;

use super::Error;
use super::content::Content;
use super::limits::{Limits, Usage};
use super::linux::FileType;
pub use summary::Summary;
pub(super) use walk::Walk;
pub(super) use xattrs::{Xattrs, XattrsId};

/// A merged root filesystem.
#[derive(Debug)]
pub struct Tree {
    limits: Limits,
    usage: Usage,
    layers: Vec<File>,
    nodes: Vec<Node>,
    xattrs: xattrs::XattrTable,
    whiteouts: u64,
}

/// Index of a node in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

impl NodeId {
    pub(super) const ROOT: NodeId = NodeId(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a directory's names lead to.
pub(super) type Children = BTreeMap<Box<[u8]>, NodeId>;

/// A file of any kind: what an inode holds.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) attributes: Attributes,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) mtime: i64,
    pub(super) mtime_nanos: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits with setuid, setgid and sticky; the kind of file is the body's to say.
    pub(super) mode: u16,
    pub(super) xattrs: XattrsId,
}

#[derive(Debug)]
pub(super) enum Body {
    Directory(Children),
    File {
        layer: u32,
        size: u64,
        content: Content,
    },
    Symlink(Box<[u8]>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// A hard link whose target has not been seen yet. None is left when a layer has been applied.
    PendingLink(Box<[u8]>),
}

impl Tree {
    /// An empty root directory, owned by root with mode 0755.
    pub fn new(limits: Limits) -> Self {
        Tree {
            limits,
            usage: Usage::default(),
            layers: Vec::new(),
            nodes: vec![Node::implied_directory()],
            xattrs: xattrs::XattrTable::default(),
            whiteouts: 0,
        }
    }

    /// Merges the next layer, an uncompressed tar archive, over those applied before.
    ///
    /// The tree keeps a duplicate of the handle: writing an image reads file contents from it, so the archive must stay
    /// as it is, though its name may be removed. After an error the tree holds part of the layer and must be dropped.
    pub fn apply(&mut self, layer: &File) -> Result<(), Error> {
        layer::apply(self, layer)
    }

    /// Counts what the tree holds.
    pub fn summary(&self) -> Summary {
        Summary::of(self)
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The layer that holds the bytes of a file whose body names it.
    pub(super) fn layer(&self, layer: u32) -> &File {
        &self.layers[layer as usize]
    }

    pub(super) fn xattrs(&self, node: &Node) -> &Xattrs {
        self.xattrs.get(node.attributes.xattrs)
    }

    fn add(&mut self, node: Node) -> NodeId {
        // Bounded by the limit on entries long before it could wrap; saturating keeps a careless limit harmless.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    fn children(&self, id: NodeId) -> Option<&Children> {
        self.node(id).children()
    }

    /// The node that `names` lead to from the root, through directories only: a symbolic link is not followed.
    fn find(&self, names: &[&[u8]]) -> Option<NodeId> {
        names.iter().try_fold(NodeId::ROOT, |id, name| self.children(id)?.get(*name).copied())
    }
}

impl Node {
    /// A directory no entry describes: one above an entry, or the root of an image that has no entry for it.
    fn implied_directory() -> Self {
        let attributes = Attributes { mtime: 0, mtime_nanos: 0, uid: 0, gid: 0, mode: 0o755, xattrs: XattrsId::NONE };
        Node { attributes, body: Body::Directory(Children::new()) }
    }

    pub(super) fn file_type(&self) -> FileType {
        match &self.body {
            Body::Directory(_) => FileType::Directory,
            Body::File { .. } => FileType::Regular,
            Body::Symlink(_) => FileType::Symlink,
            Body::CharDevice { .. } => FileType::CharDevice,
            Body::BlockDevice { .. } => FileType::BlockDevice,
            Body::Fifo | Body::PendingLink(_) => FileType::Fifo,
        }
    }

    pub(super) fn children(&self) -> Option<&Children> {
        match &self.body {
            Body::Directory(children) => Some(children),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
