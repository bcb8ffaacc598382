//! Logs of what somebody else chooses to say, kept within bounds.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The end of a log is kept, at least this much and at most twice as much. A boot with every message is a tenth of it.
pub const KEPT: u64 = 1 << 20;

/// A file that keeps the end of what is written to it.
#[derive(Debug)]
pub struct BoundedLog {
    file: File,
    length: u64,
}

impl BoundedLog {
    /// An empty log at `path`, whatever was there.
    pub fn create(path: &Path) -> io::Result<BoundedLog> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(BoundedLog { file, length: 0 })
    }

    /// The log at `path`, to be gone on with; an empty one where there is none.
    pub fn open(path: &Path) -> io::Result<BoundedLog> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        Ok(BoundedLog { file, length })
    }

    /// Adds `bytes`. Where the log would become too long, its beginning goes.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > 2 * KEPT {
            self.shorten()?;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn shorten(&mut self) -> io::Result<()> {
        let mut kept = Vec::new();
        self.file.seek(SeekFrom::Start(self.length.saturating_sub(KEPT)))?;
        self.file.read_to_end(&mut kept)?;
        self.length = 0;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&kept)?;
        self.length = kept.len() as u64;
        Ok(())
    }
}
