//! The terminal this program was started from.

use crate::error::Error;
use microagent::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal, Read};

/// Ctrl-P.
const FIRST_KEY: u8 = 0x10;
/// Ctrl-Q.
const SECOND_KEY: u8 = 0x11;
/// Ctrl-].
const ONE_KEY: u8 = 0x1d;

/// How large the terminal is, if there is one: the one that is written to, else the one that is read from.
pub(crate) fn size() -> Option<WindowSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// The same, or the size that terminals have when nobody knows better.
pub(crate) fn size_or_default() -> WindowSize {
    size().filter(|size| size.rows > 0 && size.columns > 0).unwrap_or(WindowSize { rows: 24, columns: 80 })
}

/// Passes every key on as it is, until it is dropped.
pub(crate) struct RawMode(Termios);

impl RawMode {
    /// Begins, if standard input is a terminal.
    pub(crate) fn enter() -> Result<Option<RawMode>, Error> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let set_up = || -> rustix::io::Result<RawMode> {
            let before = tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
            Ok(RawMode(before))
        };
        set_up().map(Some).map_err(|errno| Error::system("set up the terminal")(errno.into()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Keys on their way to a command. Ctrl-P Ctrl-Q, or Ctrl-], is for us: it calls `leave`, and is the end.
pub(crate) struct Keyboard<L: FnOnce()> {
    keys: Box<dyn Read + Send>,
    leave: Option<L>,
    /// Ctrl-P was pressed, and is held back.
    first: bool,
}

impl<L: FnOnce()> Keyboard<L> {
    pub(crate) fn new(keys: Box<dyn Read + Send>, leave: L) -> Keyboard<L> {
        Keyboard { keys, leave: Some(leave), first: false }
    }

    /// Takes the keys for us out of `typed`. True when they asked to leave.
    fn filter(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        for &key in typed {
            match (key, self.first) {
                (ONE_KEY, _) | (SECOND_KEY, true) => return true,
                (FIRST_KEY, false) => self.first = true,
                (key, held) => {
                    if held {
                        passed.push(FIRST_KEY);
                    }
                    // Twice the first key is that key, once held back again.
                    self.first = held && key == FIRST_KEY;
                    if !self.first {
                        passed.push(key);
                    }
                }
            }
        }
        false
    }
}

impl<L: FnOnce()> Read for Keyboard<L> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.leave.is_none() || buffer.len() < 2 {
            return Ok(0);
        }
        let mut typed = vec![0; buffer.len() / 2];
        loop {
            let count = self.keys.read(&mut typed)?;
            if count == 0 {
                return Ok(0);
            }
            let mut passed = Vec::with_capacity(count + 1);
            let left = self.filter(&typed[..count], &mut passed);
            if left && let Some(leave) = self.leave.take() {
                leave();
            }
            if left || !passed.is_empty() {
                buffer[..passed.len()].copy_from_slice(&passed);
                return Ok(passed.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn typed(keys: &[&[u8]]) -> (Vec<u8>, bool) {
        struct Strokes(std::collections::VecDeque<Vec<u8>>);
        impl Read for Strokes {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Some(stroke) = self.0.pop_front() else { return Ok(0) };
                buffer[..stroke.len()].copy_from_slice(&stroke);
                Ok(stroke.len())
            }
        }
        let left = Cell::new(false);
        let strokes = Strokes(keys.iter().map(|stroke| stroke.to_vec()).collect());
        let mut passed = Vec::new();
        Keyboard::new(Box::new(strokes), || left.set(true)).read_to_end(&mut passed).unwrap();
        (passed, left.get())
    }

    #[test]
    fn only_the_keys_to_leave_are_taken_out() {
        assert_eq!(typed(&[b"ls\r"]), (b"ls\r".to_vec(), false));
        assert_eq!(typed(&[b"a\x10", b"\x11b"]), (b"a".to_vec(), true));
        assert_eq!(typed(&[b"a\x10", b"b"]), (b"a\x10b".to_vec(), false));
        assert_eq!(typed(&[b"\x1d", b"x"]), (Vec::new(), true));
        assert_eq!(typed(&[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(typed(&[b"\x11"]), (b"\x11".to_vec(), false));
    }
}
