//! The guest's input and output on our own.

use crate::error::Error;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Standard input, for the guest.
pub(in crate::verbs) fn stdin() -> Result<Box<dyn Read + Send>, Error> {
    Ok(Box::new(duplicate(io::stdin())?))
}

/// The two outputs. They know whether the cursor of a terminal was left in the middle of a line.
pub(in crate::verbs) struct Outputs {
    mid_line: Arc<AtomicBool>,
}

impl Outputs {
    pub(in crate::verbs) fn new() -> Outputs {
        Outputs { mid_line: Arc::default() }
    }

    /// Standard output, for the guest.
    pub(in crate::verbs) fn stdout(&self) -> Result<Box<dyn Write + Send>, Error> {
        self.output(io::stdout())
    }

    /// Standard error, for the guest.
    pub(in crate::verbs) fn stderr(&self) -> Result<Box<dyn Write + Send>, Error> {
        self.output(io::stderr())
    }

    /// Makes what is said next start on a line of its own.
    pub(in crate::verbs) fn end_line(&self) {
        if self.mid_line.load(Ordering::Relaxed) {
            // A summary that runs on is still a summary.
            let _ = writeln!(io::stderr());
        }
    }

    fn output(&self, stream: impl AsFd + IsTerminal) -> Result<Box<dyn Write + Send>, Error> {
        let terminal = stream.is_terminal();
        let file = duplicate(stream)?;
        Ok(if terminal { Box::new(Terminal { file, mid_line: Arc::clone(&self.mid_line) }) } else { Box::new(file) })
    }
}

/// The stream without the line buffer that the standard library puts in front of it.
fn duplicate(stream: impl AsFd) -> Result<File, Error> {
    let owned = stream.as_fd().try_clone_to_owned().map_err(Error::system("duplicate a standard stream"))?;
    Ok(File::from(owned))
}

struct Terminal {
    file: File,
    mid_line: Arc<AtomicBool>,
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        if let Some(last) = bytes[..written].last() {
            self.mid_line.store(*last != b'\n', Ordering::Relaxed);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
