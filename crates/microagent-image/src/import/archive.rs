//! The table of contents of an image archive: names and where their bytes are.
//!
//! An image archive is a tar of a few plain files with short names; what a layer needs (owners, times, attributes,
//! sparse files) has no meaning here, so this reads names, sizes and links and nothing else.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;

use super::extent::Extent;

const BLOCK: u64 = 512;
/// More entries than any image archive has; with more, it is a root filesystem.
const MAX_ENTRIES: usize = 20_000;
/// Largest extended header that is read for a name or size.
const MAX_EXTENDED: u64 = 1024 * 1024;

pub(super) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    entries: HashMap<Vec<u8>, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    File {
        start: u64,
        length: u64,
    },
    /// Another name, relative to the directory of this one, or from the top for hard links.
    Link(Vec<u8>),
}

impl Archive {
    /// Reads the headers of the tar in `file`. `None` if there are more entries than in any image archive.
    pub(super) fn index(file: File, path: &Path) -> Result<Option<Archive>, Error> {
        let length = file.metadata().map_err(Error::io("reading", path))?.len();
        let mut headers = Headers { file: &file, path, length, position: 0 };
        let mut entries = HashMap::new();
        while let Some((name, entry)) = headers.next()? {
            // The first of several entries counts, so that an appended one cannot replace what was checked.
            entries.entry(normalised(&name)).or_insert(entry);
            if entries.len() > MAX_ENTRIES {
                return Ok(None);
            }
        }
        Ok(Some(Archive { file: Arc::new(file), path: path.to_owned(), entries }))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        matches!(self.entries.get(name.as_bytes()), Some(Entry::File { .. }))
    }

    /// The bytes of the entry `name`, which may be a link to another entry: Docker saves a layer that several images
    /// share only once.
    pub(super) fn extent(&self, name: &str) -> Option<Extent> {
        let mut entry = self.entries.get(name.as_bytes())?;
        if let Entry::Link(target) = entry {
            entry = self.entries.get(target)?;
        }
        match entry {
            Entry::File { start, length } => Some(Extent::new(Arc::clone(&self.file), &self.path, *start, *length)),
            Entry::Link(_) => None,
        }
    }
}

struct Headers<'a> {
    file: &'a File,
    path: &'a Path,
    length: u64,
    position: u64,
}

impl Headers<'_> {
    /// The next file or link.
    fn next(&mut self) -> Result<Option<(Vec<u8>, Entry)>, Error> {
        let (mut long_name, mut long_size) = (None, None);
        while self.position < self.length {
            let block: [u8; BLOCK as usize] = self.read(self.position, BLOCK)?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            check_sum(&block).then_some(()).ok_or_else(|| self.invalid("it is not a tar archive"))?;
            let kind = block[156];
            let own_size = number(&block[124..136]).ok_or_else(|| self.invalid("an entry has no valid size"))?;
            let is_extended = matches!(kind, b'x' | b'g' | b'L' | b'K');
            let size = long_size.filter(|_| !is_extended).unwrap_or(own_size);
            let start = self.position + BLOCK;
            let end = start.checked_add(size).filter(|end| *end <= self.length);
            let end = end.ok_or_else(|| self.invalid("it is truncated"))?;
            self.position = end.next_multiple_of(BLOCK);
            match kind {
                b'L' => long_name = Some(trimmed(&self.extended(start, size)?).to_vec()),
                b'x' => (long_name, long_size) = pax_name_and_size(&self.extended(start, size)?),
                b'g' | b'K' => {}
                _ => {
                    let name = long_name.take().unwrap_or_else(|| header_name(&block));
                    long_size = None;
                    let link = trimmed(&block[157..257]);
                    match kind {
                        0 | b'0' => return Ok(Some((name, Entry::File { start, length: size }))),
                        b'1' => return Ok(Some((name, Entry::Link(normalised(link))))),
                        b'2' => {
                            let target = resolve(&name, link);
                            return Ok(Some((name, Entry::Link(target))));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(None)
    }

    fn extended(&self, start: u64, size: u64) -> Result<Vec<u8>, Error> {
        if size > MAX_EXTENDED {
            return Err(self.invalid("an extended header is larger than 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, start).map_err(Error::io("reading", self.path))?;
        Ok(bytes)
    }

    fn read<const N: usize>(&self, position: u64, length: u64) -> Result<[u8; N], Error> {
        if position + length > self.length {
            return Err(self.invalid("it is truncated or not a tar archive"));
        }
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, position).map_err(Error::io("reading", self.path))?;
        Ok(bytes)
    }

    fn invalid(&self, reason: &str) -> Error {
        super::invalid(self.path, reason)
    }
}

/// Sum of all bytes, with the field that holds it counted as spaces.
fn check_sum(block: &[u8]) -> bool {
    let sum: u64 =
        block.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
    number(&block[148..156]) == Some(sum)
}

/// An octal number, or a big-endian binary one marked by its top bit.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        return field[1..].iter().try_fold(0u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = field.trim_ascii_start().split(|byte| matches!(byte, 0 | b' ')).next()?;
    digits.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

fn header_name(block: &[u8]) -> Vec<u8> {
    let (name, prefix) = (trimmed(&block[..100]), trimmed(&block[345..500]));
    match (&block[257..263], prefix) {
        (b"ustar\0", [_, ..]) => [prefix, b"/", name].concat(),
        _ => name.to_vec(),
    }
}

fn trimmed(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// `path` and `size` of an extended header: records of the form `LENGTH KEY=VALUE\n`.
fn pax_name_and_size(mut records: &[u8]) -> (Option<Vec<u8>>, Option<u64>) {
    let (mut name, mut size) = (None, None);
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<u64>().ok());
    while let Some(space) = records.iter().position(|byte| *byte == b' ') {
        let length = text(&records[..space]).and_then(|length| usize::try_from(length).ok());
        let Some(record) = length.and_then(|length| records.get(space + 1..length)) else { break };
        records = &records[space + 1 + record.len()..];
        match record.strip_suffix(b"\n").unwrap_or(record) {
            [b'p', b'a', b't', b'h', b'=', value @ ..] => name = Some(value.to_vec()),
            [b's', b'i', b'z', b'e', b'=', value @ ..] => size = text(value),
            _ => {}
        }
    }
    (name, size)
}

/// The target of a symbolic link as seen from the directory of `name`.
fn resolve(name: &[u8], target: &[u8]) -> Vec<u8> {
    let directory = name.iter().rposition(|byte| *byte == b'/').map_or(&name[..0], |slash| &name[..slash]);
    normalised(&[directory, b"/", target].concat())
}

/// `name` without empty and `.` parts, and with `..` applied.
fn normalised(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn index(bytes: &[u8]) -> Result<Option<Archive>, Error> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Archive::index(file, Path::new("test.tar"))
    }

    fn header(name: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
        let mut block = vec![0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[148..156].fill(b' ');
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn file(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, b'0', content.len() as u64, "");
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn entries_are_found_by_name_and_through_one_link() {
        let mut bytes = file("./a/layer.tar", b"content");
        bytes.extend(header("b/layer.tar", b'2', 0, "../a/layer.tar"));
        bytes.extend(header("loop", b'2', 0, "loop"));
        bytes.resize(bytes.len() + 1024, 0);
        let archive = index(&bytes).unwrap().unwrap();
        assert_eq!(archive.extent("a/layer.tar").unwrap().read(100).unwrap(), b"content");
        assert_eq!(archive.extent("b/layer.tar").unwrap().read(100).unwrap(), b"content");
        assert!(archive.extent("loop").is_none());
        assert!(archive.extent("missing").is_none());
    }

    #[test]
    fn extended_header_gives_a_long_name() {
        let name = "d/".repeat(80) + "f";
        let record = format!("{} path={name}\n", name.len() + 10);
        assert_eq!(record.len(), name.len() + 10);
        let mut bytes = header("pax", b'x', record.len() as u64, "");
        bytes.extend_from_slice(record.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(file("short", b"x"));
        assert!(index(&bytes).unwrap().unwrap().contains(&name));
    }

    #[test]
    fn first_of_two_entries_with_one_name_counts() {
        let bytes = [file("manifest.json", b"first"), file("manifest.json", b"second")].concat();
        assert_eq!(index(&bytes).unwrap().unwrap().extent("manifest.json").unwrap().read(9).unwrap(), b"first");
    }

    #[test]
    fn truncated_archive_and_other_files_are_refused() {
        let whole = file("a", &[7; 2000]);
        assert!(matches!(index(&whole[..1000]), Err(Error::InvalidImport { .. })));
        assert!(matches!(index(b"just text"), Err(Error::InvalidImport { .. })));
        assert!(matches!(index(&[b'x'; 4096]), Err(Error::InvalidImport { .. })));
    }

    proptest! {
        #[test]
        fn extended_headers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in "[0-9]{0,3} [a-z=\\n]{0,20}") {
            pax_name_and_size(&bytes);
            pax_name_and_size(text.as_bytes());
        }

        #[test]
        fn damaged_archives_never_panic(at in 0usize..1024, value: u8) {
            let mut bytes = file("a", b"content");
            bytes[at] = value;
            drop(index(&bytes));
        }
    }
}
