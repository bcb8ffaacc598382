//! The small files of a snapshot, and their digests.

use super::{Manifest, hex};
use crate::Error;
use crate::record::Record;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes sure that the files in `dir` are on the disk, and returns their digests.
pub(super) fn seal(dir: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut digests = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(ErrorKind::InvalidFilename.into()).map_err(Error::io("keep", &path))?;
        if name != crate::lease::FILE && name != Manifest::FILE {
            let digest = open(&path).and_then(|file| file.sync_all().and_then(|()| digest(file)));
            digests.insert(name.to_owned(), digest.map_err(Error::io("keep", &path))?);
        }
    }
    Ok(digests)
}

/// What is wrong with the files in `dir`, which have these digests; `None` when nothing is.
pub(super) fn wrong(dir: &Path, digests: &BTreeMap<String, String>) -> Result<Option<String>, Error> {
    for (name, expected) in digests {
        let path = dir.join(name);
        match open(&path).and_then(digest) {
            Ok(actual) if actual == *expected => {}
            Ok(_) => return Ok(Some(format!("`{name}` is not what it was"))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(format!("`{name}` is gone"))),
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(Some(format!("`{name}` is no file"))),
            Err(source) => return Err(Error::io("read", &path)(source)),
        }
    }
    Ok(None)
}

fn open(path: &Path) -> io::Result<File> {
    // Something that is no file must not make anybody wait for it.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        // A link.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => return Err(ErrorKind::InvalidInput.into()),
        file => file?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(ErrorKind::InvalidInput.into()) }
}

fn digest(mut file: File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    Ok(hex(&digest.finalize()))
}
