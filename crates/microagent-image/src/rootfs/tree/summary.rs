//! What a merged tree holds, counted.

use serde::{Deserialize, Serialize};

use super::{Body, Tree, Walk};
use crate::rootfs::content::Content;

/// What is in a root filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Layers applied.
    pub layers: u64,
    /// Archive entries read, implied directories included.
    pub entries: u64,
    /// Whiteouts and opaque markers read.
    pub whiteouts: u64,
    /// Regular files, each once however many names it has.
    pub files: u64,
    /// Regular files with holes.
    pub sparse_files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Names beyond the first of files that have several.
    pub hard_links: u64,
    /// Bytes of all regular files, holes included.
    pub bytes: u64,
    /// Bytes of all regular files, holes left out.
    pub data_bytes: u64,
    /// Extended attributes of all files.
    pub xattrs: u64,
    /// Extended attributes left out: outside the namespaces of Linux filesystems, or private to overlayfs.
    pub dropped_xattrs: u64,
}

impl Summary {
    pub(super) fn of(tree: &Tree) -> Self {
        let walk = Walk::of(tree);
        let mut summary = Summary {
            layers: tree.layers.len() as u64,
            entries: tree.usage.entries,
            whiteouts: tree.whiteouts,
            dropped_xattrs: tree.xattrs.dropped,
            ..Summary::default()
        };
        for id in walk.order() {
            let node = tree.node(*id);
            summary.xattrs += tree.xattrs(node).len() as u64;
            match &node.body {
                Body::Directory(_) => summary.directories += 1,
                Body::File { size, content, .. } => summary.add_file(*size, content),
                Body::Symlink(_) => summary.symlinks += 1,
                Body::CharDevice { .. } | Body::BlockDevice { .. } => summary.devices += 1,
                Body::Fifo => summary.fifos += 1,
                Body::PendingLink(_) => {}
            }
            if node.children().is_none() {
                summary.hard_links += u64::from(walk.link_count(*id) - 1);
            }
        }
        summary
    }

    fn add_file(&mut self, size: u64, content: &Content) {
        self.files += 1;
        self.bytes += size;
        match content {
            Content::Dense { .. } => self.data_bytes += size,
            Content::Sparse(extents) => {
                self.sparse_files += 1;
                self.data_bytes += extents.iter().map(|extent| extent.length).sum::<u64>();
            }
        }
    }
}
