//! A blank disk: a journalled ext4 filesystem in a sparse file, empty or with the directories of an overlay.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::BLOCK;
use super::allocate::Allocator;
use super::directory::{self, Entry};
use super::extents::{self, Extent};
use super::filesystem::{Filesystem, Inodes};
use super::geometry::Geometry;
use super::inode::{Content, FIRST_FREE_INODE, Inode, InodeSeed, ROOT_INODE, Time};
use super::superblock::Identity;
use crate::rootfs::Error;
use crate::rootfs::linux::FileType;

/// `e2fsck` puts there what it finds lost, and would rather not have to make it on a damaged disk.
const LOST_AND_FOUND_INODE: u32 = FIRST_FREE_INODE;

/// The name of a directory, the number of its inode and its permissions.
type Directory = (&'static [u8], u32, u16);

/// The directories of an overlay. The guest would make them while it is waited for.
const LAYERS: [Directory; 2] = [(b"upper", FIRST_FREE_INODE + 1, 0o755), (b"work", FIRST_FREE_INODE + 2, 0o755)];

/// Creates or replaces the file at `path` by an ext4 filesystem of `size` bytes with the empty directories of an overlay:
/// the disk of a workspace.
///
/// The file is sparse: a 10 GiB disk takes about 0.1 MB. It has a journal, 256-byte inodes (nanosecond times, dates past
/// 2038), metadata checksums, and a random identity. The least size is 16 MiB, the most 16 TiB.
pub fn format_blank_ext4(path: &Path, size: u64) -> Result<(), Error> {
    format(path, size, &LAYERS)
}

/// [`format_blank_ext4`] without any directory but `lost+found`: a disk for whatever somebody wants to put on it.
pub fn format_empty_ext4(path: &Path, size: u64) -> Result<(), Error> {
    format(path, size, &[])
}

fn format(path: &Path, size: u64, directories: &[Directory]) -> Result<(), Error> {
    let geometry = Geometry::of(size, 0)?;
    write(path, size, &geometry, directories).map_err(|source| Error::Write { what: "the blank disk", source })
}

fn write(path: &Path, size: u64, geometry: &Geometry, directories: &[Directory]) -> io::Result<()> {
    let identity = Identity::random()?;
    let file = File::options().write(true).create(true).truncate(true).open(path)?;
    file.set_len(size)?;
    let (filesystem, mut allocator) = Filesystem::begin(&file, geometry, &identity)?;
    let entry = |name, inode| Entry { name, inode, file_type: FileType::Directory };
    let children = [(&b"lost+found"[..], LOST_AND_FOUND_INODE, 0o700)].into_iter().chain(directories.iter().copied());
    let mut root = vec![entry(&b"."[..], ROOT_INODE), entry(b"..", ROOT_INODE)];
    root.extend(children.clone().map(|(name, inode, _)| entry(name, inode)));
    write_directory(&filesystem, &mut allocator, 0o755, &root)?;
    let mut inodes = Inodes::up_to(directories.last().map_or(LOST_AND_FOUND_INODE, |last| last.1), geometry);
    inodes.add_directory(ROOT_INODE, geometry);
    for (_, inode, permissions) in children {
        let empty = [entry(&b"."[..], inode), entry(b"..", ROOT_INODE)];
        write_directory(&filesystem, &mut allocator, permissions, &empty)?;
        inodes.add_directory(inode, geometry);
    }
    filesystem.finish(&allocator, &inodes)
}

/// Writes a directory of one block whose first entry is itself.
fn write_directory(
    filesystem: &Filesystem<'_>,
    allocator: &mut Allocator<'_>,
    permissions: u16,
    entries: &[Entry<'_>],
) -> io::Result<()> {
    let Filesystem { file, geometry, identity, .. } = filesystem;
    let number = entries[0].inode;
    let seed = InodeSeed::of(number, identity);
    let run = allocator.take(1).ok_or(io::ErrorKind::StorageFull)?;
    file.write_all_at(&directory::encode(entries.iter().copied(), seed), run.start * BLOCK)?;
    let map =
        extents::build(&[Extent { logical: 0, run }], seed, |_| Err(io::Error::from(io::ErrorKind::StorageFull)))?;
    let inode = Inode {
        number,
        mode: FileType::Directory.mode_bits() | permissions,
        uid: 0,
        gid: 0,
        // A directory is named by its parent, by itself, and by each directory in it.
        links: entries.len() as u16,
        time: Time::nearest(identity.created.into(), 0),
        size: BLOCK,
        blocks: 1,
        content: Content::Extents(map),
        xattr_block: 0,
    };
    file.write_all_at(&inode.encode(identity), geometry.inode_position(number))
}
