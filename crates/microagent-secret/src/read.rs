//! Reading what may be a secret: bounded, and with no copy left behind.

use crate::{Error, MAX_BYTES};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use zeroize::Zeroizing;

/// First size of a buffer. Most values are shorter.
const FIRST: usize = 4096;

/// All of `reader`, or nothing where that is more than [`MAX_BYTES`].
pub(crate) fn bounded(mut reader: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut bytes = Zeroizing::new(vec![0; FIRST]);
    let mut length = 0;
    loop {
        if length > MAX_BYTES {
            return Ok(None);
        }
        if length == bytes.len() {
            // Growing in place could leave what is there in memory that was given back.
            let mut larger = Zeroizing::new(vec![0; (2 * length).min(MAX_BYTES + 1)]);
            larger[..length].copy_from_slice(&bytes);
            bytes = larger;
        }
        match reader.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

/// The content of a regular file.
///
/// What it is is asked of the file that was opened, so that nobody can put another in its place in between; and opening
/// does not wait, as it would for the writer of a FIFO.
pub(crate) fn regular(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |doing| move |source: io::Error| Error::File { doing, path: path.to_owned(), source };
    let bad = |reason| Error::BadFile { path: path.to_owned(), reason };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        // A socket: `ENXIO` is what opening one says (open(2)).
        Err(rustix::io::Errno::NXIO) => return Err(bad("it is a socket or a device")),
        Err(errno) => return Err(failed("open")(errno.into())),
    };
    let stat = fstat(&file).map_err(|errno| failed("look at")(errno.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(bad("it is a directory")),
        FileType::Fifo => return Err(bad("it is a FIFO")),
        _ => return Err(bad("it is a socket or a device")),
    }
    bounded(File::from(file)).map_err(failed("read"))?.ok_or_else(|| bad("it is larger than 1 MiB"))
}

/// `bytes` without one line end, which editors and `echo` add and nobody means.
pub(crate) fn without_line_end(bytes: &[u8]) -> &[u8] {
    let Some(line) = bytes.strip_suffix(b"\n") else { return bytes };
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of an odd size, as pipes and sockets may.
    struct Dribble(usize);

    impl Read for Dribble {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = into.len().min(self.0).min(4093);
            into[..count].fill(b'x');
            self.0 -= count;
            Ok(count)
        }
    }

    #[test]
    fn everything_up_to_the_bound_is_read_and_nothing_beyond_it() {
        for length in [0, 1, FIRST - 1, FIRST, FIRST + 1, MAX_BYTES - 1, MAX_BYTES] {
            let bytes = bounded(Dribble(length)).unwrap().unwrap();
            assert!(bytes.len() == length && bytes.iter().all(|&byte| byte == b'x'), "{length}");
        }
        assert!(bounded(Dribble(MAX_BYTES + 1)).unwrap().is_none());
        assert!(bounded(Dribble(usize::MAX)).unwrap().is_none());
    }

    #[test]
    fn one_line_end_is_cut() {
        for (bytes, rest) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            ("\n", ""),
            ("", ""),
            ("\na", "\na"),
        ] {
            assert_eq!(without_line_end(bytes.as_bytes()), rest.as_bytes(), "{bytes:?}");
        }
    }
}
