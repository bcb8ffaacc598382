//! The guest kernel's console, kept within bounds.
//!
//! What a guest prints is its own choice, and so is how much: given a file, an engine would fill the host's disk with it. So the
//! console comes through a socket, and a thread keeps the last of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

/// The end of the console is kept, at least this much and at most twice as much. A boot with every message is a tenth of it.
const KEPT: u64 = 1 << 20;

/// Keeps what comes from a console in a log.
pub(super) struct Keeper {
    console: UnixStream,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts, until the engine closes `console`.
    pub(super) fn start(console: UnixStream, log: &Path) -> io::Result<Keeper> {
        let log =
            Log { file: File::options().read(true).write(true).create(true).truncate(true).open(log)?, length: 0 };
        let reading = console.try_clone()?;
        let thread = std::thread::Builder::new().name("guest-console".to_owned()).spawn(move || copy(reading, log))?;
        Ok(Keeper { console, thread })
    }

    /// Waits until everything that was said before the engine's end is in the log. Whoever else may hold the other end is not waited for.
    pub(super) fn finish(self) {
        let _ = self.console.shutdown(Shutdown::Read);
        let _ = self.thread.join();
    }
}

fn copy(mut console: UnixStream, mut log: Log) {
    let mut buffer = [0; 4096];
    loop {
        match console.read(&mut buffer) {
            Ok(0) => return,
            // A log that cannot be written must not hold up the guest.
            Ok(count) => drop(log.append(&buffer[..count])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

struct Log {
    file: File,
    length: u64,
}

impl Log {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chatty_guest_fills_no_disk_and_its_last_words_are_kept() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let (mut guest, host) = UnixStream::pair().unwrap();
        let keeper = Keeper::start(host, log.path()).unwrap();
        let line = [b'x'; 1000];
        for _ in 0..10_000 {
            guest.write_all(&line).unwrap();
        }
        guest.write_all(b"Kernel panic").unwrap();
        drop(guest);
        keeper.finish();
        let kept = std::fs::read(log.path()).unwrap();
        assert!(kept.ends_with(b"Kernel panic"));
        assert!((KEPT..=2 * KEPT).contains(&(kept.len() as u64)), "{} bytes", kept.len());
    }
}
