//! The merged tree as an ext4 image, written by `fstool`.
//!
//! The library is only ever asked to create: what it refuses or would store wrongly (too many links, attributes beyond one
//! block, names it takes for text) is refused here first, with the path that is to blame.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use fstool::block::FileBackend;
use fstool::fs::ext::xattr::Xattr;
use fstool::fs::ext::{Ext, FormatOpts, FsKind};
use fstool::fs::{DeviceKind, FileMeta};

use super::BLOCK;
use super::size::Size;
use crate::rootfs::Error;
use crate::rootfs::content::ContentReader;
use crate::rootfs::error::printable;
use crate::rootfs::output::{Observer, Written};
use crate::rootfs::tree::{Attributes, Body, Node, NodeId, Tree, Walk};

const ROOT_INODE: u32 = 2;

/// The most names an inode can have in ext4, and the most subdirectories `fstool` can count.
const LINKS_MAX: u32 = 65_000;

/// From this many names on, a directory gets an index. Below, a scan of its few blocks is as fast.
const INDEXED_FROM: usize = 256;

/// What the attributes of one inode may take together: a block less its header and end mark.
const XATTR_SPACE: usize = BLOCK as usize - 32 - 4;

/// What one attribute takes besides its name and value.
const XATTR_ENTRY: usize = 16;

/// Creates or replaces the file at `path` by an ext4 image of `tree`, `size` bytes long or as long as it takes.
///
/// Kept exactly are modes, owners, hard links, devices, holes and attributes; times are kept to the second, from 1901 to
/// 2038, and [`Written::inexact_times`] counts those that lost something.
pub fn write_ext4(tree: &Tree, path: &Path, size: Option<u64>) -> Result<Written, Error> {
    write_ext4_observed(tree, path, size, &mut |_| ControlFlow::Continue(()))
}

/// [`write_ext4`], telling `observer` of the file data written.
pub fn write_ext4_observed(
    tree: &Tree,
    path: &Path,
    size: Option<u64>,
    observer: &mut Observer<'_>,
) -> Result<Written, Error> {
    let walk = Walk::of(tree);
    let size = Size::of(tree, &walk, size)?;
    let device = FileBackend::create(path, size.bytes).map_err(|source| failed(path, source))?;
    let mut image = Image { tree, walk: &walk, path, device, observer, inodes: vec![0; tree.node_count()], inexact_times: 0 };
    let mut ext = Ext::format_with(&mut image.device, &options(size)).map_err(|source| failed(path, source))?;
    image.fill(&mut ext)?;
    ext.flush(&mut image.device).map_err(|source| failed(path, source))?;
    Ok(Written { bytes: size.bytes, inexact_times: image.inexact_times })
}

fn failed(path: &Path, source: fstool::Error) -> Error {
    match source {
        fstool::Error::Io(source) => Error::Write { what: "the ext4 image", source },
        source => Error::Ext4 { path: path.into(), source: source.into() },
    }
}

fn options(size: Size) -> FormatOpts {
    let mut options = FormatOpts::default();
    options.kind = FsKind::Ext4;
    options.block_size = BLOCK as u32;
    options.blocks_count = size.blocks;
    options.inodes_count = size.inodes;
    options.inode_size = 256;
    options.journal_blocks = super::size::JOURNAL_BLOCKS;
    options.reserved_blocks_percent = 0;
    options.sparse = true;
    options.sparse_super = true;
    options.create_lost_found = false;
    options.prezeroed = true;
    options
}

struct Image<'t, 'o> {
    tree: &'t Tree,
    walk: &'t Walk,
    path: &'t Path,
    device: FileBackend,
    observer: &'o mut Observer<'o>,
    /// Inode numbers by node; 0 for those not written yet.
    inodes: Vec<u32>,
    inexact_times: u64,
}

impl Image<'_, '_> {
    fn fill(&mut self, ext: &mut Ext) -> Result<(), Error> {
        let root = self.tree.node(NodeId::ROOT);
        let meta = self.meta(root);
        self.inodes[NodeId::ROOT.index()] = ROOT_INODE;
        ext.chmod(&mut self.device, ROOT_INODE, meta.mode)
            .and_then(|()| ext.chown(&mut self.device, ROOT_INODE, meta.uid, meta.gid))
            .and_then(|()| ext.set_times(&mut self.device, ROOT_INODE, Some(meta.mtime), Some(meta.mtime), Some(meta.mtime)))
            .map_err(|source| failed(self.path, source))?;
        self.set_xattrs(ext, ROOT_INODE, NodeId::ROOT, b"/")?;
        for directory in self.walk.order() {
            let Some(children) = self.tree.node(*directory).children() else {
                continue;
            };
            let parent = self.inodes[directory.index()];
            for (name, child) in children {
                self.add(ext, parent, name, *child)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, ext: &mut Ext, parent: u32, name: &[u8], id: NodeId) -> Result<(), Error> {
        let existing = self.inodes[id.index()];
        if existing != 0 {
            return ext
                .add_link_to(&mut self.device, parent, name, existing)
                .map_err(|source| failed(self.path, source));
        }
        if self.walk.link_count(id) > LINKS_MAX {
            return Err(unrepresentable(name, "it has more than 65,000 names or subdirectories"));
        }
        let inode = self.create(ext, parent, name, id)?;
        self.inodes[id.index()] = inode;
        self.set_xattrs(ext, inode, id, name)
    }

    fn create(&mut self, ext: &mut Ext, parent: u32, name: &[u8], id: NodeId) -> Result<u32, Error> {
        let node = self.tree.node(id);
        let meta = self.meta(node);
        let device = &mut self.device;
        let created = match &node.body {
            Body::Directory(children) if children.len() >= INDEXED_FROM => {
                let names: Vec<&[u8]> = children.keys().map(|name| &**name).collect();
                ext.add_dir_indexed(device, parent, name, meta, &names)
            }
            Body::Directory(_) => ext.add_dir_to(device, parent, name, meta),
            Body::File { layer, size, content } => {
                let mut reader = Observed {
                    reader: ContentReader::new(self.tree.layer(*layer), content, *size),
                    observer: &mut *self.observer,
                    cancelled: false,
                };
                let created = ext.add_file_to_streaming(device, parent, name, &mut reader, *size, meta);
                if reader.cancelled {
                    return Err(Error::Cancelled);
                }
                created
            }
            Body::Symlink(target) => ext.add_symlink_to(device, parent, name, target, meta),
            Body::CharDevice { major, minor } => {
                ext.add_device_to(device, parent, name, DeviceKind::Char, *major, *minor, meta)
            }
            Body::BlockDevice { major, minor } => {
                ext.add_device_to(device, parent, name, DeviceKind::Block, *major, *minor, meta)
            }
            Body::Fifo | Body::PendingLink(_) => ext.add_device_to(device, parent, name, DeviceKind::Fifo, 0, 0, meta),
        };
        created.map_err(|source| failed(self.path, source))
    }

    fn meta(&mut self, node: &Node) -> FileMeta {
        let Attributes { mtime, mtime_nanos, uid, gid, mode, .. } = node.attributes;
        let nearest = mtime.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        self.inexact_times += u64::from(nearest != mtime || mtime_nanos != 0);
        let mtime = (nearest as i32).cast_unsigned();
        FileMeta { mode, uid, gid, mtime, atime: mtime, ctime: mtime }
    }

    fn set_xattrs(&mut self, ext: &mut Ext, inode: u32, id: NodeId, name: &[u8]) -> Result<(), Error> {
        let stored = self.tree.xattrs(self.tree.node(id));
        if stored.is_empty() {
            return Ok(());
        }
        let mut space = XATTR_SPACE;
        let mut xattrs = Vec::with_capacity(stored.len());
        for (attribute, value) in stored {
            let value = match attribute.as_slice() {
                b"system.posix_acl_access" | b"system.posix_acl_default" => {
                    acl_on_disk(value).ok_or_else(|| unrepresentable(name, "its access control list is malformed"))?
                }
                _ => value.clone(),
            };
            let text = String::from_utf8(attribute.clone())
                .map_err(|_| unrepresentable(name, "the name of an extended attribute is not UTF-8"))?;
            let need = XATTR_ENTRY + text.len().next_multiple_of(4) + value.len().next_multiple_of(4);
            space = space
                .checked_sub(need)
                .ok_or_else(|| unrepresentable(name, "its extended attributes are larger than one block"))?;
            xattrs.push(Xattr { name: text, value });
        }
        ext.set_xattrs(&mut self.device, inode, &xattrs).map_err(|source| failed(self.path, source))
    }
}

fn unrepresentable(name: &[u8], reason: &'static str) -> Error {
    Error::Unrepresentable { path: printable(name), format: "ext4", reason }
}

/// An access control list as ext4 stores it, from the form in which `getxattr` shows it: of the entries (tag, permissions,
/// id), only those for a named user or group keep the id.
fn acl_on_disk(value: &[u8]) -> Option<Vec<u8>> {
    const SHOWN_VERSION: u32 = 2;
    const STORED_VERSION: u32 = 1;
    const NAMED_USER: u16 = 2;
    const NAMED_GROUP: u16 = 8;
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != SHOWN_VERSION || !rest.is_empty() {
        return None;
    }
    let mut stored = STORED_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let named = tag == NAMED_USER || tag == NAMED_GROUP;
        stored.extend_from_slice(&entry[..if named { 8 } else { 4 }]);
    }
    Some(stored)
}

/// A file's content on its way into the image.
struct Observed<'c, 'o> {
    reader: ContentReader<'c>,
    observer: &'o mut Observer<'o>,
    cancelled: bool,
}

impl Read for Observed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if (self.observer)(count as u64).is_break() {
            self.cancelled = true;
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::acl_on_disk;

    #[test]
    fn access_control_lists_keep_ids_of_named_entries_only() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let shown = [2u32.to_le_bytes().to_vec(), entry(1, 7, u32::MAX), entry(2, 5, 1000), entry(0x20, 0, u32::MAX)];
        let stored = acl_on_disk(&shown.concat()).unwrap();
        assert_eq!(stored, [1, 0, 0, 0, 1, 0, 7, 0, 2, 0, 5, 0, 0xe8, 3, 0, 0, 0x20, 0, 0, 0]);
        assert_eq!(acl_on_disk(b"\x02\0\0\0short"), None);
        assert_eq!(acl_on_disk(b""), None);
    }
}
