//! The mappings of a process, as `/proc/PID/maps` lists them (`proc(5)`).

use crate::Error;
use std::fs;

const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// As `mmap` takes it.
    pub(crate) protection: u64,
    pub(crate) shared: bool,
    pub(crate) offset: u64,
    /// Of the file system, in its two parts.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// Path, or a name of the kernel's in brackets, or nothing.
    pub(crate) name: String,
}

impl Mapping {
    pub(crate) fn length(&self) -> u64 {
        self.end - self.start
    }

    /// The file it is of can be found again under its name.
    pub(crate) fn is_of_file(&self) -> bool {
        self.inode != 0 && self.name.starts_with('/') && !self.name.ends_with(" (deleted)")
    }

    /// The kernel made it, for the process to share code and data with.
    pub(crate) fn is_kernels(&self) -> bool {
        self.name == "[vdso]" || self.name.starts_with("[vvar")
    }
}

pub(crate) fn of(pid: i32) -> Result<Vec<Mapping>, Error> {
    let list = fs::read_to_string(format!("/proc/{pid}/maps"))
        .map_err(|source| Error::Trace { action: "list the mappings of", source })?;
    list.lines().map(|line| parse(line).ok_or(Error::Proc { what: "maps" })).collect()
}

fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let mode = fields.next()?.as_bytes();
    let offset = fields.next()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?;
    let flag = |at: usize, letter: u8, value: u64| if mode.get(at) == Some(&letter) { value } else { 0 };
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        protection: flag(0, b'r', READ) | flag(1, b'w', WRITE) | flag(2, b'x', EXECUTE),
        shared: mode.get(3) == Some(&b's'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode: inode.parse().ok()?,
        name: fields.next().unwrap_or_default().trim_start().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_understood_with_spaces_in_its_path() {
        let mapping = parse("7f00-8f00 r-xp 00001000 fe:00 42                         /a path/x").unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.offset), (0x7f00, 0x8f00, 0x1000));
        assert_eq!((mapping.protection, mapping.shared, mapping.inode), (READ | EXECUTE, false, 42));
        assert!(mapping.is_of_file() && mapping.name == "/a path/x");
        assert!(!parse("7f00-8f00 rw-p 00000000 00:00 0 ").unwrap().is_of_file());
        assert!(parse("7f00-8f00 r--p 00000000 00:00 0        [vvar_vclock]").unwrap().is_kernels());
    }
}
