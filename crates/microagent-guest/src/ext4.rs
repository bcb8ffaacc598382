//! The workspace's file system made as large as its disk, while it is in use.

use crate::refusal::{quoted, refusal};
use crate::workspace::DISK;
use crate::{disks, stats, sys};
use microagent_protocol::{Capacity, Refusal, RefusalCode};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where the superblock is, and where in it is what (`fs/ext4/ext4.h`).
const SUPERBLOCK: u64 = 1024;
const BLOCKS: usize = 0x04;
const LOG_BLOCK_SIZE: usize = 0x18;
const MAGIC: usize = 0x38;
const INCOMPATIBLE: usize = 0x60;
const BLOCKS_HIGH: usize = 0x150;

/// The feature of numbers of more than 32 bits.
const INCOMPAT_64BIT: u32 = 0x80;

/// A disk may be a little larger than its file system, because the rest is too small to be described.
const WORTH_WHILE: u64 = 4 << 20;

/// What there is to know of a file system to make it larger.
#[derive(Debug, PartialEq, Eq)]
struct Extent {
    blocks: u64,
    block_size: u64,
}

/// Makes the file system of the workspace's disk as large as the disk. Returns what it has.
pub(crate) fn grow() -> Result<Capacity, Refusal> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let device = device_of(&mounts, DISK)
        .ok_or_else(|| refusal(RefusalCode::System, "cannot tell which disk is the workspace's"))?;
    grow_to_device(&device, DISK)?;
    stats::capacity(DISK.as_ref())
        .map_err(|error| refusal(RefusalCode::System, format!("cannot read the size of the disk: {error}")))
}

/// Makes the file system of the disk `device`, which is mounted at `place`, as large as the disk.
pub(crate) fn grow_to_device(device: &Path, place: &str) -> Result<(), Refusal> {
    try_to_grow(device, place).map_err(|error| {
        let what = format!("cannot make the file system on {} larger: {error}", quoted(&device.to_string_lossy()));
        refusal(RefusalCode::System, what)
    })
}

fn try_to_grow(device: &Path, place: &str) -> io::Result<()> {
    let mut superblock = [0; 1024];
    File::open(device)?.read_exact_at(&mut superblock, SUPERBLOCK)?;
    let Some(Extent { blocks, block_size }) = parse(&superblock) else { return Ok(()) };
    let size = disks::size(device)?;
    if size < blocks.saturating_mul(block_size).saturating_add(WORTH_WHILE) {
        return Ok(());
    }
    Ok(sys::resize_ext4(File::open(place)?, size / block_size)?)
}

/// The device that is mounted at `target`, by the list of mounts.
fn device_of(mounts: &str, target: &str) -> Option<PathBuf> {
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut fields| fields.next().filter(|_| fields.next() == Some(target))).map(PathBuf::from)
}

/// Reads a superblock. `None` for what is not ext4.
fn parse(superblock: &[u8; 1024]) -> Option<Extent> {
    const EXT4: [u8; 2] = 0xef53_u16.to_le_bytes();
    let word = |at: usize| superblock[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if superblock[MAGIC..MAGIC + 2] != EXT4 {
        return None;
    }
    let high = if word(INCOMPATIBLE) & INCOMPAT_64BIT != 0 { word(BLOCKS_HIGH) } else { 0 };
    let block_size = 1024_u64.checked_shl(word(LOG_BLOCK_SIZE)).filter(|size| *size <= 64 << 10)?;
    Some(Extent { blocks: u64::from(high) << 32 | u64::from(word(BLOCKS)), block_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_file_system_is_read_from_its_superblock() {
        let mut superblock = [0; 1024];
        assert_eq!(parse(&superblock), None);
        superblock[MAGIC..MAGIC + 2].copy_from_slice(&[0x53, 0xef]);
        superblock[BLOCKS..BLOCKS + 4].copy_from_slice(&5_u32.to_le_bytes());
        superblock[BLOCKS_HIGH..BLOCKS_HIGH + 4].copy_from_slice(&1_u32.to_le_bytes());
        superblock[LOG_BLOCK_SIZE] = 2;
        assert_eq!(parse(&superblock), Some(Extent { blocks: 5, block_size: 4096 }));
        superblock[INCOMPATIBLE] = 0x80;
        assert_eq!(parse(&superblock).unwrap().blocks, (1 << 32) + 5);
        superblock[LOG_BLOCK_SIZE] = 99;
        assert_eq!(parse(&superblock), None);
    }

    #[test]
    fn a_disk_is_found_by_where_it_is_mounted() {
        let mounts = "proc /proc proc rw 0 0\n/dev/vdb /mnt/workspace ext4 rw 0 0\n";
        assert_eq!(device_of(mounts, "/mnt/workspace"), Some("/dev/vdb".into()));
        assert_eq!(device_of(mounts, "/mnt/other"), None);
    }
}
