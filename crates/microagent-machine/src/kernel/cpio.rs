//! Reading the cpio "newc" format: the payload of an rpm.

use std::io::{self, Read};

const HEADER: usize = 110;
const MAGIC: [&[u8]; 2] = [b"070701", b"070702"];
const TRAILER: &[u8] = b"TRAILER!!!";
/// Linux refuses longer paths.
const LONGEST_NAME: u64 = 4096;
const TYPE_MASK: u32 = 0o170_000;
const TYPE_REGULAR: u32 = 0o100_000;

/// One member of an archive. Its content follows in the reader.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) regular: bool,
}

/// Calls `visit` with each entry and a reader over exactly its content, until the trailer.
pub(super) fn read<E: From<io::Error>>(
    mut archive: impl Read,
    mut visit: impl FnMut(&Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let Some(entry) = read_header(&mut archive)? else { return Ok(()) };
        let mut content = (&mut archive).take(entry.size);
        visit(&entry, &mut content)?;
        let unread = content.limit();
        skip(&mut archive, unread + padding(entry.size))?;
    }
}

fn read_header(archive: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut header = [0; HEADER];
    archive.read_exact(&mut header)?;
    if !MAGIC.contains(&&header[..6]) {
        return Err(invalid("a cpio header was expected and is not there"));
    }
    let mode = field(&header, 1)?;
    let size = u64::from(field(&header, 6)?);
    let name_size = u64::from(field(&header, 11)?);
    if name_size == 0 || name_size > LONGEST_NAME {
        return Err(invalid("a cpio member has a name of impossible length"));
    }
    let mut name = Vec::new();
    archive.take(name_size).read_to_end(&mut name)?;
    skip(archive, padding(HEADER as u64 + name_size))?;
    if name.pop() != Some(0) {
        return Err(invalid("a cpio member's name is not terminated"));
    }
    if name == TRAILER {
        return Ok(None);
    }
    let name = String::from_utf8(name).map_err(|_| invalid("a cpio member's name is not UTF-8"))?;
    Ok(Some(Entry { name, size, regular: mode & TYPE_MASK == TYPE_REGULAR }))
}

/// The `index`th field of eight hexadecimal digits after the magic.
fn field(header: &[u8; HEADER], index: usize) -> io::Result<u32> {
    let start = 6 + index * 8;
    std::str::from_utf8(&header[start..start + 8])
        .ok()
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| invalid("a cpio header field is not a hexadecimal number"))
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % 4
}

fn skip(archive: &mut impl Read, count: u64) -> io::Result<()> {
    if io::copy(&mut archive.take(count), &mut io::sink())? < count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
