//! Terminals of commands.
//!
//! The agent holds the master, the command gets the other end as its standard streams and as the terminal that controls its session. The
//! kernel does the rest: it hangs the terminal up, with a signal to whoever is in its foreground, when the command ends or the master is
//! closed.

use microagent_protocol::WindowSize;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Result, ioctl_fionbio};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

/// Makes a terminal of a `devpts` file system, whose root is given. Returns its two ends, the master non-blocking.
pub(crate) fn open(terminals: impl AsFd, size: WindowSize) -> Result<(OwnedFd, OwnedFd)> {
    let master = openat(terminals, "ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    unlockpt(&master)?;
    // By the master, not by its name: a name says nothing outside of the workspace.
    let end = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    resize(&master, size)?;
    ioctl_fionbio(&master, true)?;
    Ok((master, end))
}

/// Tells a terminal the size of its window. Its foreground learns of it by a signal.
pub(crate) fn resize(master: impl AsFd, size: WindowSize) -> Result<()> {
    let WindowSize { rows, columns } = size;
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
}

/// What to type to end the input: where lines are dealt in, the character for that, after a line that is still open twice, because there
/// it only ends the line; elsewhere nothing is special.
pub(crate) fn end_of_input(master: impl AsFd, line_open: bool) -> Vec<u8> {
    match tcgetattr(master) {
        Ok(modes) if modes.local_modes.contains(LocalModes::ICANON) => {
            vec![modes.special_codes[SpecialCodeIndex::VEOF]; 1 + usize::from(line_open)]
        }
        _ => Vec::new(),
    }
}
