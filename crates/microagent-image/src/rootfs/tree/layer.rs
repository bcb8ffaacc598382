//! One layer merged over those below it, by the rules of the OCI image specification.

use std::fs::File;

use super::links::PendingLinks;
use super::{Attributes, Body, Children, Node, NodeId, Tree};
use crate::rootfs::content::map_bytes;
use crate::rootfs::limits::check;
use crate::rootfs::{Error, path};
use microagent_tar::{Archive, Entry, EntryKind, FileSource, Metadata};

/// A file of this prefix removes its namesake in lower layers.
const WHITEOUT: &[u8] = b".wh.";

/// A file of this name removes everything lower layers put into its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The longest target Linux stores in a symbolic link.
const SYMLINK_MAX: u64 = 4095;

pub(super) fn apply(tree: &mut Tree, layer: &File) -> Result<(), Error> {
    let layer = layer.try_clone().map_err(Error::ReadLayer)?;
    let limits = tree.limits.clone();
    check("layer_bytes", FileSource::new(&layer)?.length(), limits.layer_bytes)?;
    let archive_limits = limits.of_archive();
    if tree.children(NodeId::ROOT).is_some_and(|children| !children.is_empty()) {
        let mut archive = Archive::new(FileSource::new(&layer)?, &archive_limits);
        while let Some(entry) = archive.next_entry()? {
            tree.remove_whited_out(&entry.path)?;
        }
    }
    let mut pending = PendingLinks::default();
    let mut archive = Archive::new(FileSource::new(&layer)?, &archive_limits);
    while let Some(entry) = archive.next_entry()? {
        tree.usage.add_entry(&limits)?;
        tree.add_entry(entry, &mut pending)?;
    }
    tree.resolve(pending)?;
    tree.layers.push(layer);
    Ok(())
}

/// What a last name means for lower layers.
enum Whiteout<'n> {
    No,
    Opaque,
    Of(&'n [u8]),
}

impl<'n> Whiteout<'n> {
    fn of(path: &[u8], name: &'n [u8]) -> Result<Self, Error> {
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Whiteout::No),
            Some(_) if name == OPAQUE => Ok(Whiteout::Opaque),
            Some(b"" | b"." | b"..") => Err(Error::entry(path, "it is a whiteout of no name")),
            Some(removed) => Ok(Whiteout::Of(removed)),
        }
    }
}

impl Tree {
    /// Does what `path` asks of lower layers if it is a whiteout.
    fn remove_whited_out(&mut self, path: &[u8]) -> Result<(), Error> {
        let names = path::split(path, &self.limits)?;
        let Some((name, parents)) = names.split_last() else {
            return Ok(());
        };
        let whiteout = Whiteout::of(path, name)?;
        if matches!(whiteout, Whiteout::No) {
            return Ok(());
        }
        if let Some(parent) = self.find(parents)
            && let Body::Directory(children) = &mut self.nodes[parent.index()].body
        {
            match whiteout {
                Whiteout::Opaque => children.clear(),
                Whiteout::Of(removed) => drop(children.remove(removed)),
                Whiteout::No => {}
            }
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: Entry, pending: &mut PendingLinks) -> Result<(), Error> {
        let Entry { path, metadata, kind } = entry;
        let names = path::split(&path, &self.limits)?;
        let Some((name, parents)) = names.split_last() else {
            return match kind {
                EntryKind::Directory => self.set_attributes(NodeId::ROOT, &path, metadata),
                _ => Err(Error::entry(&path, "the root of the image must be a directory")),
            };
        };
        if !matches!(Whiteout::of(&path, name)?, Whiteout::No) {
            self.whiteouts += 1;
            return Ok(());
        }
        let parent = self.make_parents(&path, parents)?;
        let existing = self.child(parent, name).filter(|id| self.children(*id).is_some());
        match (kind, existing) {
            (EntryKind::Directory, Some(existing)) => self.set_attributes(existing, &path, metadata),
            (EntryKind::HardLink(target), _) => {
                let id = self.link(&path, &target)?;
                if matches!(self.node(id).body, Body::PendingLink(_)) {
                    pending.push(id, &path);
                }
                self.place(parent, name, id)
            }
            (kind, _) => {
                let body = self.body(&path, kind)?;
                let attributes = self.attributes(&path, metadata)?;
                let id = self.add(Node { attributes, body });
                self.place(parent, name, id)
            }
        }
    }

    /// Gives a directory that exists the metadata of a new entry for it. It keeps what is in it.
    fn set_attributes(&mut self, id: NodeId, path: &[u8], metadata: Metadata) -> Result<(), Error> {
        self.nodes[id.index()].attributes = self.attributes(path, metadata)?;
        Ok(())
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(parent)?.get(name).copied()
    }

    /// The directory that `names` lead to, made where it is missing. Whatever else bears such a name, a symbolic link
    /// included, gives way: following it would let a layer write where its entries do not say.
    fn make_parents(&mut self, path: &[u8], names: &[&[u8]]) -> Result<NodeId, Error> {
        let mut directory = NodeId::ROOT;
        for name in names {
            if name.starts_with(WHITEOUT) {
                return Err(Error::entry(path, "a directory above it is named like a whiteout"));
            }
            if let Some(existing) = self.child(directory, name).filter(|id| self.children(*id).is_some()) {
                directory = existing;
                continue;
            }
            self.usage.add_entry(&self.limits)?;
            let made = self.add(Node::implied_directory());
            self.place(directory, name, made)?;
            directory = made;
        }
        Ok(directory)
    }

    /// Makes `name` in `parent` mean `id`, whatever it meant before.
    pub(super) fn place(&mut self, parent: NodeId, name: &[u8], id: NodeId) -> Result<(), Error> {
        self.usage.add_metadata(name.len(), &self.limits)?;
        if let Body::Directory(children) = &mut self.nodes[parent.index()].body {
            children.insert(name.into(), id);
        }
        Ok(())
    }

    fn attributes(&mut self, path: &[u8], metadata: Metadata) -> Result<Attributes, Error> {
        let Metadata { mode, uid, gid, mtime, mtime_nanos, xattrs } = metadata;
        let xattr_bytes = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.usage.add_metadata(xattr_bytes, &self.limits)?;
        let xattrs = self.xattrs.insert(path, xattrs, &self.limits)?;
        Ok(Attributes { mtime, mtime_nanos, uid, gid, mode, xattrs })
    }

    fn body(&mut self, path: &[u8], kind: EntryKind) -> Result<Body, Error> {
        Ok(match kind {
            EntryKind::Directory => Body::Directory(Children::new()),
            EntryKind::File { size, content } => {
                self.usage.add_content(size, &self.limits)?;
                self.usage.add_metadata(map_bytes(&content), &self.limits)?;
                Body::File { layer: self.layers.len() as u32, size, content }
            }
            EntryKind::Symlink(target) => {
                check("symbolic link target length", target.len() as u64, SYMLINK_MAX)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(Error::entry(path, "it is a symbolic link to no name"));
                }
                self.usage.add_metadata(target.len(), &self.limits)?;
                Body::Symlink(target.into())
            }
            EntryKind::HardLink(target) => Body::PendingLink(target.into()),
            EntryKind::CharDevice { major, minor } => Body::CharDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => Body::BlockDevice { major, minor },
            EntryKind::Fifo => Body::Fifo,
        })
    }
}
