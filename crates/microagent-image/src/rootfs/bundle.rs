//! A bundle: a disk with the contents of a tar archive.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;

use super::decompress::{Compression, decompress, detect};
use super::ext4::{least_size, write_ext4_observed};
use super::{Error, Limits, Observer, Tree, Written};

/// A disk is a whole number of these, so that its size can be told in MiB.
const MIB: u64 = 1 << 20;

/// Creates or replaces the file at `disk` by an ext4 filesystem with what the tar archive at `archive` holds, plain or
/// compressed with gzip or zstd. Owners, modes, times, attributes and devices are those of the archive; no privilege is
/// needed to write them.
///
/// The disk is as large as the contents need and `headroom` bytes more, which cost nothing until they are used. An archive
/// is read as a single layer of an image is: an entry named `.wh.NAME` hides nothing, because nothing is below, and is not
/// on the disk either.
///
/// Something of the contents' size is written beside `disk` while a compressed archive is read, to a file without a name.
pub fn write_bundle(
    archive: &Path,
    disk: &Path,
    headroom: u64,
    limits: &Limits,
    observer: &mut Observer<'_>,
) -> Result<Written, Error> {
    let unreadable = |source| Error::ReadArchive { path: archive.to_owned(), source };
    let mut file = File::open(archive).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a regular file")));
    }
    let (compression, _) = detect(&mut BufReader::new(&file))?;
    if compression != Compression::None {
        file.rewind().map_err(unreadable)?;
        let beside = disk.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |source| Error::Write { what: "the unpacked archive", source };
        let tar = tempfile::tempfile_in(beside).map_err(failed)?;
        decompress(&file, &tar, limits)?;
        file = tar;
    }
    let mut tree = Tree::new(limits.clone());
    tree.apply(&file)?;
    let size = (least_size(&tree)? + headroom).next_multiple_of(MIB);
    write_ext4_observed(&tree, disk, Some(size), observer)
}
