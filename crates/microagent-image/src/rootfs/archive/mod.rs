//! A tar archive as a sequence of entries, whatever dialect wrote it.
//!
//! Read are: POSIX ustar and pax, the GNU extensions (long names, old sparse files, base-256 numbers), the three pax
//! sparse formats, and extended attributes in both spellings in use. Names and values are bytes throughout.
//!
//! Where readers in the field disagree, this one sides with those that unpack OCI layers elsewhere (Go's): two readers
//! that see different entries in one archive are how files get smuggled past a scanner.

mod header;
mod pax;
mod reader;
mod sparse;

use std::collections::BTreeMap;
use std::fs::File;

use super::Error;
use super::content::Content;
use super::limits::{Limits, check};
use header::{BLOCK, Header};
use pax::{Pax, Time};
use reader::Reader;
use sparse::Map;

/// One thing an archive says about the filesystem.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) kind: EntryKind,
}

/// What entries of every kind have.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nanos: u32,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug)]
pub(super) enum EntryKind {
    Directory,
    File { size: u64, content: Content },
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

/// Reads the entries of an archive in order.
pub(super) struct Archive<'f> {
    reader: Reader<'f>,
    limits: &'f Limits,
    position: u64,
}

/// What the headers in front of an entry's own said about it.
#[derive(Default)]
struct Extended {
    pax: Pax,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<'f> Archive<'f> {
    pub(super) fn new(file: &'f File, limits: &'f Limits) -> Result<Self, Error> {
        let reader = Reader::new(file)?;
        check("layer_bytes", reader.length(), limits.layer_bytes)?;
        Ok(Archive { reader, limits, position: 0 })
    }

    /// The next entry, or `None` at the end of the archive.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        loop {
            let offset = self.position;
            let Some(block) = self.header_block()? else {
                return Ok(None);
            };
            let bad = |reason| Error::BadHeader { offset, reason };
            let header = Header::parse(&block).map_err(bad)?;
            let size = header.size().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| bad("its size is not a number"))?;
            match header.type_flag() {
                b'x' | b'X' => extended.pax = Pax::parse(&self.extension(size)?).map_err(bad)?,
                b'L' => extended.long_path = Some(text(self.extension(size)?)),
                b'K' => extended.long_link = Some(text(self.extension(size)?)),
                // Defaults for a whole archive: no layer writer depends on them, and honouring them would let one header
                // change entries far away.
                b'g' => self.position = self.data_end(size)?,
                _ => return self.entry(&header, extended, size).map(Some),
            }
        }
    }

    /// The next header block. An archive ends with two blocks of zeroes, or just ends.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.position == self.reader.length() {
            return Ok(None);
        }
        let block = self.reader.block(self.position)?;
        if block != [0; BLOCK] {
            self.position += BLOCK as u64;
            return Ok(Some(block));
        }
        let second = self.position + BLOCK as u64;
        if second < self.reader.length() && self.reader.block(second)? != [0; BLOCK] {
            return Err(Error::BadHeader { offset: second, reason: "it follows a lone block of zeroes" });
        }
        Ok(None)
    }

    /// The data of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        check("pax_bytes", size, self.limits.pax_bytes)?;
        let data = self.reader.bytes(self.position, size)?;
        self.position = self.data_end(size)?;
        Ok(data)
    }

    /// Where the next header is after `size` bytes of data here.
    fn data_end(&self, size: u64) -> Result<u64, Error> {
        let end = self.position.saturating_add(size);
        self.reader.expect(end)?;
        // Some writers leave the padding of the last entry out.
        Ok(end.next_multiple_of(BLOCK as u64).min(self.reader.length()))
    }

    fn entry(&mut self, header: &Header<'_>, extended: Extended, size: u64) -> Result<Entry, Error> {
        let Extended { mut pax, long_path, long_link } = extended;
        let path = pax.sparse.name.take().or(pax.path.take()).or(long_path).unwrap_or_else(|| header.path());
        let link = pax.link_path.take().or(long_link).unwrap_or_else(|| header.link_name().to_vec());
        let metadata = metadata(header, &mut pax).map_err(|reason| Error::entry(&path, reason))?;
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
    ) -> Result<EntryKind, Error> {
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
                let path = super::error::printable(path);
                return Err(Error::UnsupportedEntry {
                    path,
                    type_flag: char::from(other).escape_default().last().unwrap_or('?'),
                });
            }
        };
        self.skip_body(size)?;
        Ok(kind)
    }

    fn file(&mut self, path: &[u8], pax: &Pax, size: u64) -> Result<EntryKind, Error> {
        let data = self.position;
        let end = data.saturating_add(size);
        self.position = self.data_end(size)?;
        let map = if pax.sparse.map_in_data {
            sparse::read_from_data(&mut self.reader, path, data, end)?
        } else if pax.sparse.has_map {
            sparse::from_pax(path, &pax.sparse.map, data)?
        } else {
            return Ok(EntryKind::File { size, content: Content::Dense { source: data } });
        };
        let real_size = pax.sparse.real_size.ok_or_else(|| Error::entry(path, sparse::MALFORMED))?;
        self.sparse_file(path, map, real_size, end)
    }

    fn gnu_sparse_file(&mut self, header: &Header<'_>, path: &[u8], size: u64) -> Result<EntryKind, Error> {
        let real_size = header.gnu_real_size().and_then(|size| u64::try_from(size).ok());
        let real_size = real_size.ok_or_else(|| Error::entry(path, sparse::MALFORMED))?;
        let map = sparse::read_gnu(&mut self.reader, path, header.gnu_sparse(), self.position)?;
        self.position = map.data;
        let end = map.data.saturating_add(size);
        self.position = self.data_end(size)?;
        self.sparse_file(path, map, real_size, end)
    }

    fn sparse_file(&self, path: &[u8], map: Map, size: u64, end: u64) -> Result<EntryKind, Error> {
        check("total_bytes", size, self.limits.total_bytes)?;
        Ok(EntryKind::File { size, content: map.into_content(path, size, end)? })
    }

    /// Moves past the body of an entry that is all header. Most writers that state a size for one write no body; a few
    /// (pax hard links) do. If what follows is a header, there was none: that is what the readers that know no bodies
    /// see, and one archive must not mean two things.
    fn skip_body(&mut self, size: u64) -> Result<(), Error> {
        if size == 0 || self.position == self.reader.length() {
            return Ok(());
        }
        let next = self.reader.block(self.position)?;
        if next != [0; BLOCK] && Header::parse(&next).is_err() {
            self.position = self.data_end(size)?;
        }
        Ok(())
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
fn device(header: &Header<'_>, path: &[u8]) -> Result<(u32, u32), Error> {
    let (major, minor) = header.device().ok_or_else(|| Error::entry(path, "its device number is not a number"))?;
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) if major < 1 << 12 && minor < 1 << 20 => Ok((major, minor)),
        _ => Err(Error::entry(path, "its device number is out of range")),
    }
}

#[cfg(test)]
mod tests;
