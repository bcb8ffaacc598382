//! Being told when something about a workspace changes.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::cell::Cell;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel tells that a lease was closed a moment before it gives up the lock, which may be a long moment on a busy host. So after that
/// the answer is to look again, this often and this soon, whether anything else happens or not.
const LOOKS: u32 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

const LEASE: &CStr = c"lease";

/// Room for many events of short names.
const BUFFER: usize = 4096;

/// A watch over one workspace: its record, its events, its logs, and whether somebody holds it.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    path: PathBuf,
    /// Looks that are still to be taken because a lease was closed.
    looks: Cell<u32>,
}

impl Watch {
    pub(crate) fn new(dir: &Path) -> Result<Watch, Error> {
        let start = || -> rustix::io::Result<OwnedFd> {
            let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let flags = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::MOVE_SELF;
            inotify::add_watch(&inotify, dir, flags | WatchFlags::ONLYDIR)?;
            Ok(inotify)
        };
        let inotify = start().map_err(|errno| Error::io("watch", dir)(errno.into()))?;
        Ok(Watch { inotify, path: dir.to_owned(), looks: Cell::new(0) })
    }

    /// Waits until something may have changed since the last look, or `deadline`. False when the deadline passed.
    pub fn changed(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        let looks = self.looks.get();
        let soon = (looks > 0).then(|| Instant::now() + LOOK_AGAIN);
        let until = [deadline, soon].into_iter().flatten().min();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout =
                left.map(|left| Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() });
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(false),
                Ok(0) if looks > 0 => {
                    self.looks.set(looks - 1);
                    return Ok(true);
                }
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => break,
                Err(errno) => return Err(Error::io("watch", &self.path)(errno.into())),
            }
        }
        self.drain()?;
        Ok(true)
    }

    /// Takes in what there is to read; what it says does not matter, the caller looks.
    fn drain(&self) -> Result<(), Error> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::CLOSE_WRITE) && event.file_name() == Some(LEASE) => {
                    self.looks.set(LOOKS);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(Error::io("watch", &self.path)(errno.into())),
            }
        }
    }
}
