//! What a process has made of a file that it has mapped privately.

use crate::Error;
use crate::mappings::{self, Mapping};
use crate::memory::{PAGE, RUN, is_own, pages, start_of};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Writes the pages that process `pid` has changed of `mapped`, which it has mapped privately, over those of `into`: a copy of that file
/// becomes what the process sees. Nothing must be writing to that memory. Returns how many bytes were written.
///
/// Where a mapping ends, anonymous memory may go on in the place of what would be a hole of the file.
pub fn overlay(pid: i32, mapped: &File, into: &File) -> Result<u64, Error> {
    let open = |name: &str| {
        File::open(format!("/proc/{pid}/{name}"))
            .map_err(|source| Error::Trace { action: "read the memory of", source })
    };
    let (memory, pagemap) = (open("mem")?, open("pagemap")?);
    let mappings = mappings::of(pid)?;
    let start = start_of(&mappings, mapped)?.ok_or(Error::Proc { what: "maps" })?;
    let end = start + into.metadata().map_err(Error::Write)?.len();
    let (mut buffer, mut written) = (vec![0; (RUN * PAGE) as usize], 0);
    for mapping in mappings.into_iter().filter(|mapping| mapping.start < end && mapping.end > start) {
        let within = Mapping { start: mapping.start.max(start), end: mapping.end.min(end), ..mapping };
        let pages = pages(&pagemap, &within)?;
        let mut at = 0;
        while at < pages.len() {
            let run = pages[at..].iter().take(RUN as usize).take_while(|&&page| is_own(page)).count();
            if run > 0 {
                let bytes = &mut buffer[..run * PAGE as usize];
                let address = within.start + at as u64 * PAGE;
                memory
                    .read_exact_at(bytes, address)
                    .map_err(|source| Error::Trace { action: "read the memory of", source })?;
                written += write(bytes, into, address - start)?;
            }
            at += run.max(1);
        }
    }
    Ok(written)
}

/// Writes pages, and makes holes of those that are zero.
fn write(bytes: &[u8], into: &File, mut at: u64) -> Result<u64, Error> {
    let mut written = 0;
    for (is_zero, pages) in stretches(bytes) {
        let length = pages.len() as u64;
        if is_zero {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(into, hole, at, length).map_err(|errno| Error::Write(errno.into()))?;
        } else {
            into.write_all_at(pages, at).map_err(Error::Write)?;
            written += length;
        }
        at += length;
    }
    Ok(written)
}

/// The longest stretches of pages that are all zero, or all not.
pub(crate) fn stretches(bytes: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let is_zero = rest.get(..ZEROS.len())? == ZEROS;
        let count = rest.chunks(ZEROS.len()).take_while(|page| (*page == ZEROS) == is_zero).count();
        let (alike, others) = rest.split_at(count * ZEROS.len());
        rest = others;
        Some((is_zero, alike))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_apart_by_what_is_in_them() {
        let mut bytes = vec![0; 5 * PAGE as usize];
        bytes[2 * PAGE as usize + 17] = 1;
        bytes[3 * PAGE as usize] = 1;
        let lengths: Vec<_> = stretches(&bytes).map(|(is_zero, pages)| (is_zero, pages.len() as u64 / PAGE)).collect();
        assert_eq!(lengths, [(true, 2), (false, 2), (true, 1)]);
    }
}
