//! A tar archive as a sequence of entries, whatever dialect wrote it.
//!
//! Read are: POSIX ustar and pax, the GNU extensions (long names, old sparse files, base-256 numbers), the three pax
//! sparse formats, and extended attributes in both spellings in use. Names and values are bytes throughout.
//!
//! Where readers in the field disagree, this one sides with those that unpack OCI layers elsewhere (Go's): two readers
//! that see different entries in one archive are how files get smuggled past a scanner.

mod content;
mod header;
mod pax;
mod source;
mod sparse;

pub use content::{Content, Extent};
pub use source::{FileSource, Source, StreamSource};

use crate::limits::{Limits, check};
use crate::{ArchiveError, printable};
use header::Header;
use pax::{Pax, Time};
use source::next_block;
use sparse::Map;
use std::collections::BTreeMap;
use std::io::Read;

pub(crate) use header::BLOCK;

/// One thing an archive says about the filesystem.
#[derive(Debug)]
pub struct Entry {
    /// Its name, as the archive has it.
    pub path: Vec<u8>,
    /// What entries of every kind have.
    pub metadata: Metadata,
    /// What it is.
    pub kind: EntryKind,
}

/// What entries of every kind have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// When it was modified: seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds past them.
    pub mtime_nanos: u32,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Debug)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes of it, holes included.
        size: u64,
        /// Where they are.
        content: Content,
    },
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of the entry of this name.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Reads the entries of an archive in order.
pub struct Archive<'l, S> {
    source: S,
    limits: &'l Limits,
    /// Where the data of the last entry ends.
    data_end: u64,
    ended: bool,
}

/// What the headers in front of an entry's own said about it.
#[derive(Default)]
struct Extended {
    pax: Pax,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<'l, S: Source> Archive<'l, S> {
    /// Reads from the beginning of `source`.
    pub fn new(source: S, limits: &'l Limits) -> Self {
        Archive { source, limits, data_end: 0, ended: false }
    }

    /// Bytes of the archive read so far.
    pub fn position(&self) -> u64 {
        self.source.position()
    }

    /// Whether the mark that ends an archive has been read. Without one, the rest may be missing.
    pub fn has_end(&self) -> bool {
        self.ended
    }

    /// The next entry, or `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.source.skip(self.data_end.saturating_sub(self.source.position()))?;
        self.source.skip_padding()?;
        let mut extended = Extended::default();
        loop {
            let offset = self.source.position();
            let Some(block) = self.header_block()? else {
                return Ok(None);
            };
            let bad = |reason| ArchiveError::BadHeader { offset, reason };
            let header = Header::parse(&block).map_err(bad)?;
            let size = header.size().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| bad("its size is not a number"))?;
            match header.type_flag() {
                b'x' | b'X' => extended.pax = Pax::parse(&self.extension(size)?).map_err(bad)?,
                b'L' => extended.long_path = Some(text(self.extension(size)?)),
                b'K' => extended.long_link = Some(text(self.extension(size)?)),
                // Defaults for a whole archive: no writer of layers depends on them, and honouring them would let one header change
                // entries far away.
                b'g' => self.skip_data(size)?,
                _ => return self.entry(&header, extended, size).map(Some),
            }
        }
    }

    /// The next header block. An archive ends with two blocks of zeroes, or just ends.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let Some(block) = next_block(&mut self.source)? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        self.ended = true;
        let offset = self.source.position();
        if next_block(&mut self.source)?.is_some_and(|block| block != [0; BLOCK]) {
            return Err(ArchiveError::BadHeader { offset, reason: "it follows a lone block of zeroes" });
        }
        Ok(None)
    }

    /// The data of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        check("pax_bytes", size, self.limits.pax_bytes)?;
        let data = self.source.bytes(size)?;
        self.source.skip_padding()?;
        Ok(data)
    }

    fn skip_data(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.source.skip(size)?;
        self.source.skip_padding()
    }

    /// Takes note that `size` bytes of data come now, and says where they end.
    fn announce(&mut self, size: u64) -> Result<u64, ArchiveError> {
        self.data_end = self.source.position().saturating_add(size);
        self.source.expect(self.data_end)?;
        Ok(self.data_end)
    }

    fn entry(&mut self, header: &Header<'_>, extended: Extended, size: u64) -> Result<Entry, ArchiveError> {
        let Extended { mut pax, long_path, long_link } = extended;
        let path = pax.sparse.name.take().or(pax.path.take()).or(long_path).unwrap_or_else(|| header.path());
        let link = pax.link_path.take().or(long_link).unwrap_or_else(|| header.link_name().to_vec());
        let metadata = metadata(header, &mut pax).map_err(|reason| ArchiveError::entry(&path, reason))?;
        let kind = self.kind(header, &path, link, &pax, pax.size.unwrap_or(size))?;
        Ok(Entry { path, metadata, kind })
    }

    /// What the entry is. Moves past its data.
    fn kind(
        &mut self,
        header: &Header<'_>,
        path: &[u8],
        link: Vec<u8>,
        pax: &Pax,
        size: u64,
    ) -> Result<EntryKind, ArchiveError> {
        let kind = match header.type_flag() {
            // Before ustar, a directory was a file whose name ends in a slash.
            0 if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => return self.file(path, pax, size),
            b'S' => return self.gnu_sparse_file(header, path, size),
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' => device(header, path).map(|(major, minor)| EntryKind::CharDevice { major, minor })?,
            b'4' => device(header, path).map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                let path = printable(path);
                return Err(ArchiveError::UnsupportedEntry {
                    path,
                    type_flag: char::from(other).escape_default().last().unwrap_or('?'),
                });
            }
        };
        self.skip_body(size)?;
        Ok(kind)
    }

    fn file(&mut self, path: &[u8], pax: &Pax, size: u64) -> Result<EntryKind, ArchiveError> {
        let data = self.source.position();
        let end = self.announce(size)?;
        let map = if pax.sparse.map_in_data {
            sparse::read_from_data(&mut self.source, path, end)?
        } else if pax.sparse.has_map {
            sparse::from_pax(path, &pax.sparse.map, data)?
        } else {
            return Ok(EntryKind::File { size, content: Content::Dense { source: data } });
        };
        let real_size = pax.sparse.real_size.ok_or_else(|| ArchiveError::entry(path, sparse::MALFORMED))?;
        self.sparse_file(path, map, real_size, end)
    }

    fn gnu_sparse_file(&mut self, header: &Header<'_>, path: &[u8], size: u64) -> Result<EntryKind, ArchiveError> {
        let real_size = header.gnu_real_size().and_then(|size| u64::try_from(size).ok());
        let real_size = real_size.ok_or_else(|| ArchiveError::entry(path, sparse::MALFORMED))?;
        let map = sparse::read_gnu(&mut self.source, path, header.gnu_sparse())?;
        let end = self.announce(size)?;
        self.sparse_file(path, map, real_size, end)
    }

    fn sparse_file(&self, path: &[u8], map: Map, size: u64, end: u64) -> Result<EntryKind, ArchiveError> {
        check("total_bytes", size, self.limits.total_bytes)?;
        Ok(EntryKind::File { size, content: map.into_content(path, size, end)? })
    }

    /// Moves past the body of an entry that is all header. Most writers that state a size for one write no body; a few
    /// (pax hard links) do. If what follows is a header, there was none: that is what the readers that know no bodies
    /// see, and one archive must not mean two things.
    fn skip_body(&mut self, size: u64) -> Result<(), ArchiveError> {
        if size == 0 {
            return Ok(());
        }
        match self.source.peek()? {
            Some(next) if next != [0; BLOCK] && Header::parse(&next).is_err() => self.skip_data(size),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Archive<'_, StreamSource<R>> {
    /// Hands the data of the last entry, a regular file, to `sink`: where it belongs in the file, and the bytes. What is not handed out are
    /// holes.
    pub fn read_content<E: From<ArchiveError>>(
        &mut self,
        size: u64,
        content: &Content,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = [Extent { start: 0, length: size, source: self.source.position() }];
        let extents = match content {
            Content::Dense { .. } => &whole[..],
            Content::Sparse(extents) => extents,
        };
        for extent in extents {
            self.source.skip(extent.source.saturating_sub(self.source.position()))?;
            let mut at = extent.start;
            while at < extent.end() {
                let bytes = self.source.some(extent.end() - at)?;
                sink(at, bytes)?;
                at += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Reads what comes after the end of the archive, for the sake of a writer that pads it. Fails with more than `limit` bytes of it.
    pub(crate) fn drain(&mut self, limit: u64) -> Result<(), ArchiveError> {
        let end = self.source.position();
        loop {
            if self.source.chunk(u64::MAX)?.is_empty() {
                return Ok(());
            }
            check("bytes after its end", self.source.position() - end, limit)?;
        }
    }
}

/// Metadata from an entry's own header, overruled by the extended one before it.
fn metadata(header: &Header<'_>, pax: &mut Pax) -> Result<Metadata, &'static str> {
    let id = |pax: Option<u64>, header: Option<i64>| match pax {
        Some(id) => u32::try_from(id).ok(),
        None => header.and_then(|id| u32::try_from(id).ok()),
    };
    let mtime = match pax.mtime {
        Some(time) => time,
        None => Time { seconds: header.mtime().ok_or("its time is not a number")?, nanoseconds: 0 },
    };
    Ok(Metadata {
        mode: (header.mode().ok_or("its mode is not a number")?.cast_unsigned() & 0o7777) as u16,
        uid: id(pax.uid, header.uid()).ok_or("its owner is not a user number")?,
        gid: id(pax.gid, header.gid()).ok_or("its group is not a group number")?,
        mtime: mtime.seconds,
        mtime_nanos: mtime.nanoseconds,
        xattrs: std::mem::take(&mut pax.xattrs),
    })
}

/// GNU long names end with a NUL.
fn text(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|byte| *byte == 0) {
        data.truncate(end);
    }
    data
}

/// A device number Linux can express: 12 bits of major, 20 of minor.
fn device(header: &Header<'_>, path: &[u8]) -> Result<(u32, u32), ArchiveError> {
    let (major, minor) =
        header.device().ok_or_else(|| ArchiveError::entry(path, "its device number is not a number"))?;
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) if major < 1 << 12 && minor < 1 << 20 => Ok((major, minor)),
        _ => Err(ArchiveError::entry(path, "its device number is out of range")),
    }
}

#[cfg(test)]
mod tests;
