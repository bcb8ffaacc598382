//! Files that are mostly holes, and how they are mapped.
//!
//! A page that a copy touches in a hole of a file on tmpfs becomes a page of the file, for good, even where the file is mapped privately:
//! what the copies of a checkpoint touch would add up to all that they could. So holes are mapped as what they are, memory that is
//! nobody's yet.

use crate::Error;
use crate::memory::{ANONYMOUS, Mapped, NO_FILE};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;

/// Shorter holes are not worth a mapping of their own.
const WORTH_A_MAPPING: u64 = 64 << 10;

/// Splits a mapping of `file` into mappings of its data and of nothing.
pub(crate) fn split(file: &File, whole: Mapped) -> Result<Vec<Mapped>, Error> {
    let [_, length, .., offset] = whole;
    let end = offset + length;
    let (mut parts, mut done) = (Vec::new(), offset);
    while done < end {
        let (start, stop) = next_data(file, done, end).map_err(|errno| Error::Write(errno.into()))?;
        if start - done >= WORTH_A_MAPPING || start == end {
            parts.push(part(whole, done, start, false));
            done = start;
        }
        if stop > done {
            parts.push(part(whole, done, stop, true));
            done = stop;
        }
    }
    Ok(parts.into_iter().filter(|part| part[1] > 0).collect())
}

/// The next stretch of data from `from` on, with the short holes in it; it is empty, and at `end`, when there is none.
fn next_data(file: &File, from: u64, end: u64) -> Result<(u64, u64), Errno> {
    let Some(start) = data(file, from)?.filter(|&start| start < end) else { return Ok((end, end)) };
    let mut stop = seek(file, SeekFrom::Hole(start))?.min(end);
    while stop < end {
        match data(file, stop)? {
            Some(next) if next < end && next - stop < WORTH_A_MAPPING => {
                stop = seek(file, SeekFrom::Hole(next))?.min(end);
            }
            _ => break,
        }
    }
    Ok((start, stop))
}

fn data(file: &File, from: u64) -> Result<Option<u64>, Errno> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => Ok(Some(start)),
        // Nothing but a hole follows.
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn part([address, _, protection, flags, descriptor, offset]: Mapped, from: u64, to: u64, has_data: bool) -> Mapped {
    let start = address + (from - offset);
    if has_data {
        [start, to - from, protection, flags, descriptor, from]
    } else {
        [start, to - from, protection, ANONYMOUS, NO_FILE, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    const PAGE: u64 = 4096;

    #[test]
    fn data_is_mapped_from_the_file_and_long_holes_are_not() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(100 * PAGE).unwrap();
        for page in [30, 32, 80] {
            file.write_all_at(&[1], page * PAGE).unwrap();
        }
        let whole = [0x1000_0000, 90 * PAGE, 3, 2, 7, 10 * PAGE];
        let mapped = |at: u64, pages: u64, offset: u64| [0x1000_0000 + at * PAGE, pages * PAGE, 3, 2, 7, offset * PAGE];
        let nothing = |at: u64, pages: u64| [0x1000_0000 + at * PAGE, pages * PAGE, 3, ANONYMOUS, NO_FILE, 0];
        let expected = vec![nothing(0, 20), mapped(20, 3, 30), nothing(23, 47), mapped(70, 1, 80), nothing(71, 19)];
        assert_eq!(split(&file, whole).unwrap(), expected);
    }

    #[test]
    fn every_byte_is_mapped_once() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(4096 * PAGE).unwrap();
        for page in (0..4096).filter(|page| page % 37 < 3 || page % 1000 < 100) {
            file.write_all_at(&[1], page * PAGE).unwrap();
        }
        let parts = split(&file, [0, 4096 * PAGE, 3, 2, 7, 0]).unwrap();
        assert!(parts.len() > 10);
        assert!(parts.windows(2).all(|pair| pair[0][0] + pair[0][1] == pair[1][0]));
        assert_eq!(parts.iter().map(|part| part[1]).sum::<u64>(), 4096 * PAGE);
    }
}
