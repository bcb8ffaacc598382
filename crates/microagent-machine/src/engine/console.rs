//! The guest kernel's console, kept within bounds.
//!
//! What a guest prints is its own choice, and so is how much: given a file, an engine would fill the host's disk with it. So the
//! console comes through a socket, and a thread keeps the last of it.

use crate::log::BoundedLog;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

/// Keeps what comes from a console in a log.
pub(super) struct Keeper {
    console: UnixStream,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts, until the engine closes `console`.
    pub(super) fn start(console: UnixStream, log: &Path) -> io::Result<Keeper> {
        let log = BoundedLog::create(log)?;
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

fn copy(mut console: UnixStream, mut log: BoundedLog) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::KEPT;
    use std::io::Write;

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
