//! Writing the cpio "newc" format.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;
const TRAILER: &str = "TRAILER!!!";
const HEADER: usize = 110;

/// An archive being written. Everything in it belongs to root and is as old as the epoch.
pub(super) struct Writer<W> {
    output: W,
    entries: u32,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(output: W) -> Self {
        Writer { output, entries: 0 }
    }

    pub(super) fn directory(&mut self, name: &str, permissions: u32) -> io::Result<()> {
        self.entry(name, DIRECTORY | permissions, 2, (0, 0), &[])
    }

    pub(super) fn character_device(&mut self, name: &str, permissions: u32, device: (u32, u32)) -> io::Result<()> {
        self.entry(name, CHARACTER_DEVICE | permissions, 1, device, &[])
    }

    pub(super) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | permissions, 1, (0, 0), content)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, 1, (0, 0), &[])?;
        Ok(self.output)
    }

    fn entry(&mut self, name: &str, mode: u32, links: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "a cpio member is at most 4 GiB"))?;
        self.entries += 1;
        let name_size = name.len() + 1;
        let (major, minor) = device;
        // magic, inode, mode, uid, gid, links, mtime, size, device of the file, device it is, name size, checksum
        write!(
            self.output,
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}{minor:08x}\
             {name_size:08x}{:08x}{name}\0",
            self.entries, 0, 0, 0, 0, 0, 0
        )?;
        self.pad(HEADER + name_size)?;
        self.output.write_all(content)?;
        self.pad(content.len())
    }

    /// Names and contents start at multiples of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.output.write_all(&[0; 3][..written.wrapping_neg() % 4])
    }
}
