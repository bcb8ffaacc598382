//! Copies of disks: sparse as they are, and of shared blocks where the file system can.

use crate::Error;
use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Most bytes that are copied in one call.
const PIECE: u64 = 64 << 20;

/// Copies a disk, holes as holes; where the file system can share blocks, it does. Returns what the copy takes.
pub(crate) fn copy_disk(from: &Path, to: &Path) -> Result<u64, Error> {
    let source = File::open(from).map_err(microagent_state::Error::io("read", from))?;
    let copy = || -> io::Result<u64> {
        let target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        copy_contents(&source, &target)?;
        Ok(target.metadata()?.blocks() * 512)
    };
    Ok(copy().map_err(microagent_state::Error::io("copy the disk to", to))?)
}

/// Makes an empty file hold what `source` does.
pub(crate) fn copy_contents(source: &File, target: &File) -> io::Result<()> {
    match ioctl_ficlone(target, source) {
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => copy_data(source, target),
        cloned => Ok(cloned?),
    }
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    ftruncate(target, length)?;
    let mut at = 0;
    while at < length {
        let start = match seek(source, SeekFrom::Data(at)) {
            // There is nothing but a hole from here on.
            Err(Errno::NXIO) => return Ok(()),
            start => start?,
        };
        let end = seek(source, SeekFrom::Hole(start))?;
        at = copy_range(source, target, start, end)?;
    }
    Ok(())
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<u64> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let piece = usize::try_from((end - from).min(PIECE)).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), piece) {
            // The file has become shorter, which that of a workspace at rest does not.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_copied_disk_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let source = File::create(&from).unwrap();
        source.set_len(64 << 20).unwrap();
        for (at, byte) in [(0, 1), (5 << 20, 2), ((64 << 20) - 4096, 3)] {
            source.write_all_at(&[byte; 4096], at).unwrap();
        }
        let bytes = copy_disk(&from, &to).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        assert!(bytes <= 1 << 20, "{bytes} bytes are taken by 12 KiB");
        assert!(copy_disk(&from, &to).is_err(), "nothing is copied over");
    }
}
