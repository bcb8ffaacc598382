//! Getting rid of secrets before a machine is written down.
//!
//! Their directory belongs to their user, who may have given a file another name, so nothing in it is looked at for what it is: every file is
//! overwritten, and removed. The agent does it by a view of the directory of its own, in which nothing of the workspace's can be mounted, and
//! follows no link. While it does nothing else happens; how long that takes is bounded by the size of the file system.

use crate::refusal::refusal;
use microagent_protocol::{Refusal, RefusalCode, SECRETS};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, fstat, openat, statat, unlinkat};
use rustix::io::{Errno, Result, pwrite};
use std::mem::MaybeUninit;

/// How often the directory is looked at until it is empty. Somebody who fills it faster does not want to be written down.
const MOST_ROUNDS: usize = 16;

/// More directories in one another than this are nobody's secrets.
const MOST_DEPTH: usize = 16;

/// Bytes of a directory's listing that are read at a time.
const LISTING: usize = 4096;

const ZEROS: [u8; 4096] = [0; 4096];

/// Overwrites and removes everything in the directory of secrets.
pub(crate) fn purge(secrets: &OwnedFd) -> std::result::Result<(), Refusal> {
    let failed = |why: &dyn std::fmt::Display| refusal(RefusalCode::System, format!("cannot purge `{SECRETS}`: {why}"));
    for _ in 0..MOST_ROUNDS {
        if empty(secrets, MOST_DEPTH).map_err(|error| failed(&error))? == 0 {
            return Ok(());
        }
    }
    Err(failed(&"files keep being made in it"))
}

/// Removes what is in a directory. Returns how much that was.
fn empty(directory: impl AsFd, depth: usize) -> Result<usize> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut removed = 0;
    let mut buffer = [MaybeUninit::uninit(); LISTING];
    let mut entries = RawDir::new(openat(&directory, c".", flags, Mode::empty())?, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        removed += 1;
        match remove(&directory, name, depth) {
            // It was renamed meanwhile, and is met again under its new name.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn remove(directory: impl AsFd, name: &std::ffi::CStr, depth: usize) -> Result<()> {
    let kind = FileType::from_raw_mode(statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match kind {
        FileType::Directory => {
            empty(openat(&directory, name, flags | OFlags::DIRECTORY, Mode::empty())?, depth)?;
            match unlinkat(&directory, name, AtFlags::REMOVEDIR) {
                // Somebody was quicker; the next round sees it.
                Err(Errno::NOTEMPTY) => Ok(()),
                removed => removed,
            }
        }
        FileType::RegularFile => {
            overwrite(&openat(&directory, name, flags | OFlags::WRONLY, Mode::empty())?)?;
            unlinkat(&directory, name, AtFlags::empty())
        }
        _ => unlinkat(&directory, name, AtFlags::empty()),
    }
}

/// Writes zeros over a file.
fn overwrite(file: &OwnedFd) -> Result<()> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        // Something else has taken its name.
        return Err(Errno::NOENT);
    }
    let length = stat.st_size.cast_unsigned();
    let mut written = 0;
    while written < length {
        let rest = (length - written).min(ZEROS.len() as u64) as usize;
        match pwrite(file, &ZEROS[..rest], written) {
            Ok(count) => written += count as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn purged(directory: &Path) -> std::result::Result<(), Refusal> {
        purge(&File::open(directory).unwrap().into())
    }

    #[test]
    fn files_are_overwritten_and_removed_whatever_they_are_called() {
        let directory = tempfile::tempdir().unwrap();
        let value = "value".repeat(3000);
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("moved")).unwrap();
        let mut open = Vec::new();
        for name in ["TOKEN", ".TOKEN.new", "moved/away", "linked"] {
            fs::write(at(name), &value).unwrap();
            open.push(File::open(at(name)).unwrap());
        }
        fs::hard_link(at("linked"), at("again")).unwrap();
        purged(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        for mut file in open {
            let mut left = Vec::new();
            file.read_to_end(&mut left).unwrap();
            assert_eq!(left, vec![0; value.len()]);
        }
    }

    #[test]
    fn nothing_outside_is_touched_and_nothing_is_waited_for() {
        let (outside, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = outside.path().join("file");
        fs::write(&file, "kept").unwrap();
        symlink(&file, directory.path().join("file")).unwrap();
        symlink(outside.path(), directory.path().join("directory")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            directory.path().join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        purged(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(file).unwrap(), "kept");
    }

    #[test]
    fn what_cannot_be_removed_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut deep = directory.path().to_owned();
        (0..=MOST_DEPTH).for_each(|_| deep.push("d"));
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(purged(directory.path()).unwrap_err().code, RefusalCode::System);
    }
}
