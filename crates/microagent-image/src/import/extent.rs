//! A run of bytes in a file: a blob of a layout, or an entry of an archive.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::{Algorithm, Digester};
use crate::rootfs::Compression;
use crate::{Digest, Error};

const BUFFER: usize = 256 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Extent {
    file: Arc<File>,
    path: PathBuf,
    start: u64,
    length: u64,
}

impl Extent {
    pub(super) fn new(file: Arc<File>, path: &Path, start: u64, length: u64) -> Extent {
        Extent { file, path: path.to_owned(), start, length }
    }

    /// All of the file at `path`, which must be a regular file: reading a pipe could wait for ever.
    pub(super) fn whole(path: &Path) -> Result<Extent, Error> {
        let failed = || Error::io("opening", path);
        let metadata = path.metadata().map_err(failed())?;
        if !metadata.is_file() {
            return Err(super::invalid(path, "it is not a regular file"));
        }
        let file = File::open(path).map_err(failed())?;
        Ok(Extent::new(Arc::new(file), path, 0, metadata.len()))
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Hands the bytes from `offset` on to `take`, in order.
    pub(super) fn read_from(&self, offset: u64, take: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
        let mut position = offset;
        while position < self.length {
            let wanted = usize::try_from(self.length - position).unwrap_or(usize::MAX).min(BUFFER);
            let bytes = &mut buffer[..wanted];
            self.file.read_exact_at(bytes, self.start + position).map_err(Error::io("reading", &self.path))?;
            take(bytes)?;
            position += wanted as u64;
        }
        Ok(())
    }

    /// All bytes, of which there may be at most `limit`.
    pub(super) fn read(&self, limit: u64) -> Result<Vec<u8>, Error> {
        if self.length > limit {
            let what = format!("bytes of a document in `{}`", self.path.display());
            return Err(Error::LimitExceeded { what, limit, found: self.length });
        }
        let mut bytes = Vec::new();
        self.read_from(0, &mut |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        Ok(bytes)
    }

    pub(super) fn digest(&self) -> Result<Digest, Error> {
        let mut digester = Digester::new(Algorithm::Sha256);
        self.read_from(0, &mut |bytes| {
            digester.update(bytes);
            Ok(())
        })?;
        Ok(digester.finish())
    }

    /// How it is compressed, by its first bytes.
    pub(super) fn compression(&self) -> Result<Compression, Error> {
        let mut magic = [0; 4];
        let wanted = usize::try_from(self.length).unwrap_or(usize::MAX).min(magic.len());
        self.file.read_exact_at(&mut magic[..wanted], self.start).map_err(Error::io("reading", &self.path))?;
        Ok(compression(magic))
    }
}

/// Whether `file` has to be unpacked before it can be read as a tar.
pub(super) fn is_compressed(file: &File) -> io::Result<bool> {
    let mut magic = [0; 4];
    // A file too short for the magic of any format is compressed with none.
    match file.read_exact_at(&mut magic, 0) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(compression(magic) != Compression::None),
    }
}

fn compression(magic: [u8; 4]) -> Compression {
    match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
        _ => Compression::None,
    }
}
