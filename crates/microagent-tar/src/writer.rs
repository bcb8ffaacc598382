//! Archives in the making: pax headers, and the bytes of files straight from their descriptors.

use crate::archive::{BLOCK, Metadata};
use crate::{Error, printable};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::io::Write;

/// What is written at once. Large enough that system calls do not count, and that small files go out many at a time.
const BUFFER: usize = 256 << 10;

/// Longest name a plain header holds.
const NAME_MAX: usize = 100;

/// Largest numbers that the octal fields of a plain header hold: seven digits and eleven.
const ID_MAX: u32 = 0o7_777_777;
const SIZE_MAX: u64 = (1 << 33) - 1;

/// What an entry is, to a [`Writer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'k> {
    /// A directory.
    Directory,
    /// A regular file of so many bytes, which follow.
    File(u64),
    /// A symbolic link to this.
    Symlink(&'k [u8]),
    /// Another name of the entry of this name.
    HardLink(&'k [u8]),
    /// A character device, by the numbers of its driver and its own.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

impl<'k> Kind<'k> {
    fn type_flag(self) -> u8 {
        match self {
            Kind::File(_) => b'0',
            Kind::HardLink(_) => b'1',
            Kind::Symlink(_) => b'2',
            Kind::CharDevice(..) => b'3',
            Kind::BlockDevice(..) => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        }
    }

    fn size(self) -> u64 {
        if let Kind::File(size) = self { size } else { 0 }
    }

    fn link(self) -> &'k [u8] {
        if let Kind::Symlink(target) | Kind::HardLink(target) = self { target } else { b"" }
    }

    fn device(self) -> (u32, u32) {
        if let Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) = self {
            (major, minor)
        } else {
            (0, 0)
        }
    }
}

/// Writes an archive.
pub struct Writer<W> {
    output: W,
    buffer: Box<[u8]>,
    used: usize,
}

impl<W: Write> Writer<W> {
    /// Writes to `output`, in large pieces.
    pub fn new(output: W) -> Self {
        Writer { output, buffer: vec![0; BUFFER].into(), used: 0 }
    }

    /// Writes the header of an entry, with an extended one before it where a plain one cannot say all. The data of a file must follow.
    pub fn entry(&mut self, path: &[u8], kind: Kind<'_>, metadata: &Metadata) -> Result<(), Error> {
        let extended = extended(path, kind, metadata);
        if !extended.is_empty() {
            self.header(
                b"pax",
                b'x',
                Kind::File(extended.len() as u64),
                &Metadata { mode: 0o644, ..Metadata::default() },
            )?;
            self.data(&extended)?;
            self.pad(extended.len() as u64)?;
        }
        self.header(path, kind.type_flag(), kind, metadata)
    }

    /// Writes the data of a file: `size` bytes, as the header said, whether the file has become longer or shorter since. What is missing
    /// is zeroes.
    pub fn data_of(&mut self, file: impl AsFd, size: u64, path: &[u8]) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            let room = self.room(1)?;
            let most = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match rustix::io::read(&file, &mut room[..most]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(error) => return Err(Error::File { action: "read", path: printable(path), source: error.into() }),
            };
            self.used += count;
            left -= count as u64;
        }
        self.zeroes(left)?;
        self.pad(size)
    }

    /// Ends the archive and hands back what it was written to.
    pub fn finish(mut self) -> Result<W, Error> {
        self.zeroes(2 * BLOCK as u64)?;
        self.flush()?;
        self.output.flush().map_err(Error::Write)?;
        Ok(self.output)
    }

    fn header(&mut self, path: &[u8], type_flag: u8, kind: Kind<'_>, metadata: &Metadata) -> Result<(), Error> {
        let header = header(path, type_flag, kind, metadata);
        self.room(BLOCK)?[..BLOCK].copy_from_slice(&header);
        self.used += BLOCK;
        Ok(())
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.room(1)?;
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.used += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Fills up the last block of `size` bytes of data.
    fn pad(&mut self, size: u64) -> Result<(), Error> {
        self.zeroes(size.next_multiple_of(BLOCK as u64) - size)
    }

    fn zeroes(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let room = self.room(1)?;
            let some = room.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            room[..some].fill(0);
            self.used += some;
            count -= some as u64;
        }
        Ok(())
    }

    /// At least `least` bytes of buffer that are free.
    fn room(&mut self, least: usize) -> Result<&mut [u8], Error> {
        if self.buffer.len() - self.used < least {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.used..])
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.output.write_all(&self.buffer[..self.used]).map_err(Error::Write)?;
        self.used = 0;
        Ok(())
    }
}

/// What a plain header cannot say, as the records of an extended one.
fn extended(path: &[u8], kind: Kind<'_>, metadata: &Metadata) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > NAME_MAX {
        push_record(&mut records, &[b"path"], path);
    }
    if kind.link().len() > NAME_MAX {
        push_record(&mut records, &[b"linkpath"], kind.link());
    }
    if kind.size() > SIZE_MAX {
        push_record(&mut records, &[b"size"], kind.size().to_string().as_bytes());
    }
    for (keyword, id) in [(b"uid", metadata.uid), (b"gid", metadata.gid)] {
        if id > ID_MAX {
            push_record(&mut records, &[keyword], id.to_string().as_bytes());
        }
    }
    if metadata.mtime_nanos != 0 || !(0..=SIZE_MAX.cast_signed()).contains(&metadata.mtime) {
        push_record(&mut records, &[b"mtime"], time(metadata.mtime, metadata.mtime_nanos).as_bytes());
    }
    for (name, value) in &metadata.xattrs {
        push_record(&mut records, &[b"SCHILY.xattr.", name], value);
    }
    records
}

/// A record starts with its own length, which counts the digits it is written in.
fn push_record(records: &mut Vec<u8>, keyword: &[&[u8]], value: &[u8]) {
    let rest = keyword.iter().map(|part| part.len()).sum::<usize>() + value.len() + b" =\n".len();
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length += 1;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    for part in keyword {
        records.extend_from_slice(part);
    }
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn time(seconds: i64, nanoseconds: u32) -> String {
    // The fraction of a pax time counts away from zero, that of a Linux time always upwards.
    match (seconds < 0, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// A plain header. What does not fit its fields is cut: the extended header before it has it whole.
fn header(path: &[u8], type_flag: u8, kind: Kind<'_>, metadata: &Metadata) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |offset: usize, text: &[u8]| header[offset..offset + text.len()].copy_from_slice(text);
    let (major, minor) = kind.device();
    put(0, &path[..path.len().min(NAME_MAX)]);
    put(100, &octal::<7>(metadata.mode.into()));
    put(108, &octal::<7>(metadata.uid.min(ID_MAX).into()));
    put(116, &octal::<7>(metadata.gid.min(ID_MAX).into()));
    put(124, &octal::<11>(kind.size().min(SIZE_MAX)));
    put(136, &octal::<11>(metadata.mtime.clamp(0, SIZE_MAX.cast_signed()).cast_unsigned()));
    put(148, b"        ");
    put(156, &[type_flag]);
    put(157, &kind.link()[..kind.link().len().min(NAME_MAX)]);
    put(257, b"ustar\x0000");
    put(329, &octal::<7>(major.into()));
    put(337, &octal::<7>(minor.into()));
    let checksum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..154].copy_from_slice(&octal::<6>(checksum));
    header[154] = 0;
    header
}

/// The last `DIGITS` octal digits of a number.
fn octal<const DIGITS: usize>(mut number: u64) -> [u8; DIGITS] {
    let mut text = [b'0'; DIGITS];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number & 7) as u8;
        number >>= 3;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Archive, EntryKind, Limits, StreamSource};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn metadata() -> impl Strategy<Value = Metadata> {
        let xattr = (prop::collection::vec(1u8..=255, 1..40), prop::collection::vec(any::<u8>(), 0..99));
        let xattr = xattr.prop_map(|(name, value)| (name.into_iter().filter(|byte| *byte != b'=').collect(), value));
        let xattrs = prop::collection::vec(xattr, 0..3).prop_map(BTreeMap::from_iter);
        (0u16..0o10000, any::<u32>(), any::<u32>(), -(1i64 << 36)..1 << 36, 0u32..1_000_000_000, xattrs).prop_map(
            |(mode, uid, gid, mtime, mtime_nanos, xattrs)| Metadata { mode, uid, gid, mtime, mtime_nanos, xattrs },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            metadata in metadata(),
            path in prop::collection::vec(1u8..=255, 1..300),
            link in prop::collection::vec(1u8..=255, 1..300),
            numbers in (0u32..1 << 12, 0u32..1 << 20),
        ) {
            let (major, minor) = numbers;
            let kinds = [
                Kind::Directory,
                Kind::Symlink(&link),
                Kind::HardLink(&link),
                Kind::CharDevice(major, minor),
                Kind::BlockDevice(major, minor),
                Kind::Fifo,
            ];
            let mut writer = Writer::new(Vec::new());
            for kind in kinds {
                writer.entry(&path, kind, &metadata).unwrap();
            }
            let bytes = writer.finish().unwrap();
            let limits = Limits::default();
            let mut archive = Archive::new(StreamSource::new(&bytes[..]), &limits);
            for kind in kinds {
                let entry = archive.next_entry().unwrap().unwrap();
                prop_assert_eq!((&entry.path, &entry.metadata), (&path, &metadata));
                let same = match (&entry.kind, kind) {
                    (EntryKind::Directory, Kind::Directory) | (EntryKind::Fifo, Kind::Fifo) => true,
                    (EntryKind::Symlink(read), Kind::Symlink(link)) | (EntryKind::HardLink(read), Kind::HardLink(link)) => {
                        read == link
                    }
                    (EntryKind::CharDevice { major, minor }, Kind::CharDevice(of, number))
                    | (EntryKind::BlockDevice { major, minor }, Kind::BlockDevice(of, number)) => {
                        (*major, *minor) == (of, number)
                    }
                    _ => false,
                };
                prop_assert!(same, "{:?} is not {:?}", entry.kind, kind);
            }
            prop_assert!(archive.next_entry().unwrap().is_none() && archive.has_end());
        }
    }

    #[test]
    fn a_file_of_more_than_eight_gibibytes_has_its_size() {
        const SIZE: u64 = 9 << 30;
        let mut writer = Writer::new(Vec::new());
        writer.entry(b"large", Kind::File(SIZE), &Metadata::default()).unwrap();
        let bytes = writer.finish().unwrap();
        let limits = Limits::default();
        let entry = Archive::new(StreamSource::new(&bytes[..]), &limits).next_entry().unwrap().unwrap();
        assert!(matches!(entry.kind, EntryKind::File { size: SIZE, .. }), "{entry:?}");
    }

    #[test]
    fn a_file_that_has_shrunk_or_grown_is_as_long_as_was_said() {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        for said in [4u64, 10, 700_000] {
            file.rewind().unwrap();
            let mut writer = Writer::new(Vec::new());
            writer.data_of(&file, said, b"file").unwrap();
            let bytes = writer.finish().unwrap();
            assert_eq!(bytes.len() as u64, said.next_multiple_of(512) + 1024);
            let text = said.min(10) as usize;
            assert_eq!(bytes[..text], b"0123456789"[..text]);
            assert!(bytes[text..].iter().all(|byte| *byte == 0));
        }
    }
}
