//! The memory of a process: what of it is saved, and how a copy gets it back.
//!
//! Private memory with content of its own goes to the memory file, from which copies map it privately. Unchanged parts of program files are
//! mapped from those files again, after a check that they are still the same. What the caller provides is mapped
//! privately whatever it was.

use crate::Error;
use crate::capture::Provided;
use crate::format::{ADDRESS_SPACE_END, Action, LOADER_ADDRESS, MEMORY_SLOT, RESERVED_END, SLOTS};
use crate::mappings::{self, Mapping};
use crate::overlay::stretches;
use crate::plan::{Plan, number};
use crate::sparse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

pub(crate) const PAGE: u64 = 4096;

/// Pages of a file that are mapped again, or copied, together: each piece is a mapping of the copy.
const GRAIN: usize = 64;

/// Pages read at a time.
pub(crate) const RUN: u64 = 256;

const READ_ONLY_CLOSED_ON_EXEC: u64 = 0o200_0000;

/// `PROT_READ | PROT_WRITE`
const READ_WRITE: u64 = 3;

/// `MAP_PRIVATE | MAP_FIXED`, and with it `MAP_NORESERVE` and `MAP_ANONYMOUS`.
const FIXED: u64 = 0x12;
const FIXED_NO_RESERVE: u64 = FIXED | 0x4000;
pub(crate) const ANONYMOUS: u64 = FIXED_NO_RESERVE | 0x20;
pub(crate) const NO_FILE: u64 = u64::MAX;

/// First of the descriptors of program files, counted from [`SLOTS`].
const FILES: u32 = 100;
/// A process may usually have 1024 descriptors.
const MAX_FILES: u32 = 500;

/// What the stack of the leading thread can grow by in a copy: for the original the kernel would see to that.
const STACK_ROOM: u64 = 8 << 20;

/// Bits of `/proc/PID/pagemap` (`Documentation/admin-guide/mm/pagemap.rst` in Linux).
const IN_MEMORY_OR_SWAP: u64 = 3 << 62;
const OF_FILE: u64 = 1 << 61;

/// Saves memory and adds the steps that map it.
pub(crate) struct Saver<'a> {
    pid: i32,
    provided: Option<Provided<'a>>,
    process: File,
    pagemap: File,
    /// Where memory is saved, and how much of the file is in use.
    memory: &'a File,
    end: u64,
    saved: u64,
    /// Program files and the descriptors they are opened at.
    files: BTreeMap<String, u64>,
}

/// A mapping of the copy, in the arguments of `mmap`.
pub(crate) type Mapped = [u64; 6];

impl<'a> Saver<'a> {
    pub(crate) fn new(pid: i32, provided: Option<Provided<'a>>, memory: &'a File) -> Result<Saver<'a>, Error> {
        let open = |name: &str| {
            File::open(format!("/proc/{pid}/{name}"))
                .map_err(|source| Error::Trace { action: "read the memory of", source })
        };
        Ok(Saver {
            pid,
            provided,
            process: open("mem")?,
            pagemap: open("pagemap")?,
            memory,
            end: 0,
            saved: 0,
            files: BTreeMap::new(),
        })
    }

    /// Saves everything. Returns the number of bytes that were worth it.
    pub(crate) fn save(mut self, plan: &mut Plan) -> Result<u64, Error> {
        let mappings = mappings::of(self.pid)?;
        let (kernels, own): (Vec<Mapping>, Vec<Mapping>) = mappings.into_iter().partition(Mapping::is_kernels);
        let mut mapped = Vec::new();
        let mut previous_end = 0;
        let stretch = self.stretch(&own)?;
        if let (Some(stretch), Some(provided)) = (&stretch, self.provided) {
            let length = stretch.end - stretch.start;
            mapped.push([stretch.start, length, READ_WRITE, FIXED_NO_RESERVE, (SLOTS + provided.slot).into(), 0]);
        }
        for mapping in &outside(own, stretch.as_ref()) {
            check_sharing(mapping)?;
            if !is_surroundings(mapping) {
                if mapping.name == "[stack]" {
                    let start = mapping.start.saturating_sub(STACK_ROOM).max(previous_end + PAGE);
                    mapped.push([start, mapping.start - start, mapping.protection, ANONYMOUS, NO_FILE, 0]);
                }
                for piece in self.pieces(mapping)? {
                    mapped.push(self.map(plan, &piece)?);
                }
                previous_end = mapping.end;
            }
        }
        self.memory.set_len(self.end).map_err(Error::Write)?;
        let pieces: Vec<u64> =
            kernels.iter().flat_map(|k| [k.start, k.length(), u64::from(k.name == "[vdso]")]).collect();
        let pieces = [plan.words(&pieces), kernels.len() as u64];
        plan.step(Action::Clear, &pieces, 0);
        mapped.sort_by_key(|arguments| arguments[0]);
        for whole in merged(mapped) {
            for arguments in self.without_holes(whole)? {
                plan.call(number::MMAP, &arguments, arguments[0]);
            }
        }
        plan.step(Action::Place, &pieces, 0);
        Ok(self.saved)
    }

    /// A mapping of a file that is mostly holes, as mappings that leave them out.
    fn without_holes(&self, whole: Mapped) -> Result<Vec<Mapped>, Error> {
        let slot = whole[4];
        let provided = self.provided.filter(|provided| slot == u64::from(SLOTS + provided.slot));
        match provided.map(|provided| provided.content) {
            Some(file) => sparse::split(file, whole),
            None if slot == u64::from(SLOTS + MEMORY_SLOT) => sparse::split(self.memory, whole),
            None => Ok(vec![whole]),
        }
    }

    /// Where the memory is that copies have from the caller.
    fn stretch(&self, mappings: &[Mapping]) -> Result<Option<Range<u64>>, Error> {
        let Some(Provided { mapped, content, .. }) = self.provided else { return Ok(None) };
        let start = start_of(mappings, mapped)?.ok_or(Error::Proc { what: "maps" })?;
        Ok(Some(start..start + content.metadata().map_err(Error::Write)?.len()))
    }

    fn map(&mut self, plan: &mut Plan, mapping: &Mapping) -> Result<Mapped, Error> {
        let Mapping { start, protection, offset, .. } = *mapping;
        let length = mapping.length();
        if protection == 0 {
            return Ok([start, length, 0, ANONYMOUS, NO_FILE, 0]);
        }
        let pages = self.pages(mapping)?;
        let changed = pages.iter().any(|&page| is_own(page));
        if mapping.is_of_file() && !changed {
            let file = self.file(plan, mapping)?;
            return Ok([start, length, protection, FIXED, file, offset]);
        }
        let at = self.end;
        // What of a file was never touched has content all the same.
        let whole = mapping.inode != 0;
        self.copy(mapping, |page| whole || pages[page] & IN_MEMORY_OR_SWAP != 0)?;
        Ok([start, length, protection, FIXED_NO_RESERVE, (SLOTS + MEMORY_SLOT).into(), at])
    }

    /// A mapping of a file that was changed in parts, in pieces that were changed and pieces that were not: those are mapped from the file
    /// again, as everybody else has them.
    fn pieces(&self, mapping: &Mapping) -> Result<Vec<Mapping>, Error> {
        if mapping.protection == 0 || !mapping.is_of_file() {
            return Ok(vec![mapping.clone()]);
        }
        let pages = self.pages(mapping)?;
        let grains = pages.chunks(GRAIN).map(|grain| grain.iter().any(|&page| is_own(page)));
        let mut pieces: Vec<(bool, Mapping)> = Vec::new();
        for (number, changed) in (0_u64..).zip(grains) {
            let start = mapping.start + number * GRAIN as u64 * PAGE;
            let end = mapping.end.min(start + GRAIN as u64 * PAGE);
            match pieces.last_mut() {
                Some((like, piece)) if *like == changed => piece.end = end,
                _ => {
                    let offset = mapping.offset + (start - mapping.start);
                    pieces.push((changed, Mapping { start, end, offset, ..mapping.clone() }));
                }
            }
        }
        Ok(pieces.into_iter().map(|(_, piece)| piece).collect())
    }

    fn pages(&self, mapping: &Mapping) -> Result<Vec<u64>, Error> {
        pages(&self.pagemap, mapping)
    }

    /// Copies those pages of a mapping that `wanted` picks and that are not zero.
    fn copy(&mut self, mapping: &Mapping, wanted: impl Fn(usize) -> bool) -> Result<(), Error> {
        let count = mapping.length() / PAGE;
        let mut buffer = vec![0; (RUN * PAGE) as usize];
        let mut page = 0;
        while page < count {
            let run = (page..count).take(RUN as usize).take_while(|&page| wanted(page as usize)).count() as u64;
            if run > 0 {
                let bytes = &mut buffer[..(run * PAGE) as usize];
                self.read(mapping.start + page * PAGE, bytes)?;
                self.write(bytes, self.end + page * PAGE)?;
            }
            page += run.max(1);
        }
        self.end += mapping.length();
        Ok(())
    }

    /// Reads memory of the process. What lies beyond the end of a mapped file reads as zeros: nobody has been there.
    fn read(&self, start: u64, bytes: &mut [u8]) -> Result<(), Error> {
        for (at, page) in bytes.chunks_mut(RUN as usize * PAGE as usize).enumerate() {
            if self.process.read_exact_at(page, start + at as u64 * RUN * PAGE).is_ok() {
                continue;
            }
            for (within, page) in page.chunks_mut(PAGE as usize).enumerate() {
                match self.process.read_exact_at(page, start + (at as u64 * RUN + within as u64) * PAGE) {
                    Err(error) if error.raw_os_error() == Some(libc::EIO) => page.fill(0),
                    read => read.map_err(|source| Error::Trace { action: "read the memory of", source })?,
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], mut at: u64) -> Result<(), Error> {
        for (is_zero, pages) in stretches(bytes) {
            if !is_zero {
                self.memory.write_all_at(pages, at).map_err(Error::Write)?;
                self.saved += pages.len() as u64;
            }
            at += pages.len() as u64;
        }
        Ok(())
    }

    /// The descriptor of a program file, with the steps that open and check it.
    fn file(&mut self, plan: &mut Plan, mapping: &Mapping) -> Result<u64, Error> {
        if let Some(&descriptor) = self.files.get(&mapping.name) {
            return Ok(descriptor);
        }
        let refused = |what: String| Error::Memory { start: mapping.start, what };
        let found =
            fs::metadata(&mapping.name).map_err(|error: io::Error| refused(format!("`{}`: {error}", mapping.name)))?;
        if found.ino() != mapping.inode {
            return Err(refused(format!("`{}` is another file by now", mapping.name)));
        }
        let count = self.files.len() as u32;
        if count == MAX_FILES {
            return Err(refused(format!("it is of the {MAX_FILES}th file")));
        }
        let descriptor = u64::from(SLOTS + FILES + count);
        plan.open_path(&mapping.name, READ_ONLY_CLOSED_ON_EXEC, descriptor);
        let identity = [
            descriptor,
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime().cast_unsigned(),
            found.mtime_nsec().cast_unsigned(),
        ];
        plan.step(Action::Check, &identity, 0);
        self.files.insert(mapping.name.clone(), descriptor);
        Ok(descriptor)
    }
}

/// Not the program's own: the kernel's entry for programs of twenty years ago, which is in every process, and the loader's remains in one
/// that is a copy itself.
fn is_surroundings(mapping: &Mapping) -> bool {
    mapping.start >= ADDRESS_SPACE_END || (LOADER_ADDRESS..RESERVED_END).contains(&mapping.start)
}

/// What the page map says of each page of a mapping.
pub(crate) fn pages(pagemap: &File, mapping: &Mapping) -> Result<Vec<u64>, Error> {
    let mut bytes = vec![0; (mapping.length() / PAGE * 8) as usize];
    pagemap
        .read_exact_at(&mut bytes, mapping.start / PAGE * 8)
        .map_err(|source| Error::Trace { action: "find the memory of", source })?;
    Ok(bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes"))).collect())
}

/// Whether a page is the process's own, and not the file's that is mapped there.
pub(crate) fn is_own(page: u64) -> bool {
    page & IN_MEMORY_OR_SWAP != 0 && page & OF_FILE == 0
}

/// Where the beginning of a file is mapped, or would be, if any of it is. Inodes of different file systems may be equal, but not many files
/// are mapped to be written to and not run.
pub(crate) fn start_of(mappings: &[Mapping], file: &File) -> Result<Option<u64>, Error> {
    let inode = file.metadata().map_err(Error::Write)?.ino();
    let mapping = mappings.iter().find(|mapping| mapping.inode == inode && mapping.protection == READ_WRITE);
    Ok(mapping.and_then(|mapping| mapping.start.checked_sub(mapping.offset)))
}

/// The mappings without what of them lies in `stretch`.
fn outside(mappings: Vec<Mapping>, stretch: Option<&Range<u64>>) -> Vec<Mapping> {
    let Some(&Range { start, end }) = stretch else { return mappings };
    let cut = |mapping: Mapping| {
        let after = mapping.start.max(end);
        [(mapping.start, mapping.end.min(start)), (after, mapping.end)].into_iter().filter_map(move |(from, to)| {
            let offset = mapping.offset + from.saturating_sub(mapping.start);
            (from < to).then(|| Mapping { start: from, end: to, offset, ..mapping.clone() })
        })
    };
    mappings.into_iter().flat_map(cut).collect()
}

fn check_sharing(mapping: &Mapping) -> Result<(), Error> {
    if mapping.shared {
        let what = format!("it is shared (`{}`)", mapping.name);
        return Err(Error::Memory { start: mapping.start, what });
    }
    Ok(())
}

/// Joins mappings that continue each other, address and file alike.
fn merged(all: Vec<Mapped>) -> Vec<Mapped> {
    let mut merged: Vec<Mapped> = Vec::with_capacity(all.len());
    for next in all {
        match merged.last_mut() {
            Some(last)
                if last[0] + last[1] == next[0]
                    && last[2..5] == next[2..5]
                    && (last[4] == NO_FILE || last[5] + last[1] == next[5]) =>
            {
                last[1] += next[1];
            }
            _ => merged.push(next),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_joined_only_where_memory_and_file_both_go_on() {
        let apart = vec![[0x1000, 0x1000, 3, FIXED, 7, 0], [0x2000, 0x1000, 3, FIXED, 7, 0x2000]];
        assert_eq!(merged(apart.clone()), apart);
        let together = vec![[0x1000, 0x1000, 3, FIXED, 7, 0], [0x2000, 0x1000, 3, FIXED, 7, 0x1000]];
        assert_eq!(merged(together), vec![[0x1000, 0x2000, 3, FIXED, 7, 0]]);
    }
}
