//! A disk that somebody else made: whether it is one, and what its superblock says.
//!
//! A guest may have written it, so nothing beyond the fixed fields of the superblock is looked at, and nothing is believed
//! but that they are numbers.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use super::superblock::{INCOMPAT_RECOVER, MAGIC, SUPERBLOCK_SIZE};
use crate::rootfs::Error;

const OFFSET: u64 = 1024;
/// Blocks are 1 KiB shifted by this at most: 64 KiB, what the largest pages of Linux hold.
const LARGEST_LOG_BLOCK: u32 = 6;

/// What the superblock of an ext4 filesystem says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ext4Info {
    /// Bytes of the file or device.
    pub size: u64,
    /// Bytes of the filesystem in it: fewer where the disk was made larger and the filesystem has not grown yet.
    pub filesystem_size: u64,
    /// Its identity; `None` if it was given none.
    pub uuid: Option<[u8; 16]>,
    /// The journal holds changes that are not in place yet, because it was not unmounted. Mounting it to write puts that
    /// right; mounted read-only and without recovery, it is as it was before them.
    pub needs_recovery: bool,
}

/// Looks whether `path`, a regular file or block device, is an ext4 disk that nothing on this host has mounted.
pub fn probe_ext4(path: &Path) -> Result<Ext4Info, Error> {
    let unreadable = |source| Error::ReadDisk { path: path.to_owned(), source };
    let refuse = |reason| Error::NotADisk { path: path.to_owned(), reason };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let what = if kind.is_dir() { "it is a directory" } else { "it is neither a regular file nor a block device" };
        return Err(refuse(what));
    }
    let file = File::open(path).map_err(unreadable)?;
    let size = length(&file).map_err(unreadable)?;
    let mut superblock = [0; SUPERBLOCK_SIZE];
    match file.read_exact_at(&mut superblock, OFFSET) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(refuse("it is too small to hold a filesystem"));
        }
        read => read.map_err(unreadable)?,
    }
    let superblock = Superblock(&superblock);
    if superblock.short(0x38) != MAGIC {
        return Err(refuse("it does not hold an ext4 filesystem"));
    }
    if superblock.word(0x18) > LARGEST_LOG_BLOCK {
        return Err(refuse("its superblock is damaged"));
    }
    let block = 1024_u64 << superblock.word(0x18);
    let filesystem_size = superblock.blocks().checked_mul(block).ok_or_else(|| refuse("its superblock is damaged"))?;
    if filesystem_size == 0 || filesystem_size > size {
        return Err(refuse("it is cut off: the filesystem is larger than the file"));
    }
    if is_mounted(&metadata, path) {
        let reason = "it is mounted on this host, or the backing file of a loop device";
        return Err(Error::DiskInUse { path: path.to_owned(), reason });
    }
    let uuid: [u8; 16] = superblock.array(0x68);
    let needs_recovery = superblock.word(0x60) & INCOMPAT_RECOVER != 0;
    Ok(Ext4Info { size, filesystem_size, uuid: (uuid != [0; 16]).then_some(uuid), needs_recovery })
}

struct Superblock<'b>(&'b [u8; SUPERBLOCK_SIZE]);

impl Superblock<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|index| self.0[offset + index])
    }

    fn short(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    fn word(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    /// The high half of the count means something only with the feature that makes block numbers 64 bits wide.
    fn blocks(&self) -> u64 {
        const INCOMPAT_64BIT: u32 = 0x80;
        let high = if self.word(0x60) & INCOMPAT_64BIT == 0 { 0 } else { self.word(0x150) };
        u64::from(high) << 32 | u64::from(self.word(0x04))
    }
}

/// The length of a file, or of a device, whose metadata does not tell.
fn length(file: &File) -> io::Result<u64> {
    use std::io::Seek;
    let mut file = file;
    file.seek(io::SeekFrom::End(0))
}

/// Whether Linux has the device mounted, or a loop device on the file. What cannot be found out counts as not.
fn is_mounted(metadata: &fs::Metadata, path: &Path) -> bool {
    if metadata.file_type().is_block_device() {
        return mounted_devices().contains(&metadata.rdev());
    }
    let Ok(path) = fs::canonicalize(path) else { return false };
    let backing_files = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    backing_files
        .map(|entry| entry.path().join("loop/backing_file"))
        .any(|file| fs::read_to_string(file).is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == path))
}

/// Numbers of the devices that are mounted, from `/proc/self/mountinfo`, whose third field is `MAJOR:MINOR`.
fn mounted_devices() -> Vec<u64> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let number = |line: &str| {
        let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
        Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    };
    mounts.lines().filter_map(number).collect()
}
