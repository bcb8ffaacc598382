//! What the thread waits on.

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Most events of one turn.
const EVENTS: usize = 256;

/// Who is meant by an event: the link, a wake-up, or a flow by its number.
pub(crate) type Token = u64;
/// The link has frames, or room for them.
pub(crate) const LINK: Token = 0;
/// Another thread has something.
pub(crate) const WAKE: Token = 1;
/// The first number of a flow.
pub(crate) const FIRST_FLOW: Token = 2;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub token: Token,
    /// Something can be read: bytes, the end, or an error.
    pub read: bool,
    /// Something can be written, or an error is to be had by trying.
    pub write: bool,
}

/// An epoll instance with a way to wake it.
pub(crate) struct Poll {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
}

impl Poll {
    pub(crate) fn new() -> Result<Poll, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Poll { epoll, wake })
    }

    /// An eventfd whose writing ends a wait.
    pub(crate) fn wake(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.wake)
    }

    /// Tells each time that something can be read or written that could not be before: whoever is told goes on until it
    /// blocks. That way a flow costs one system call for its whole life, whichever of its sides is slow.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, fd, EventData::new_u64(token), flags)
    }

    /// Tells as long as something can be read.
    pub(crate) fn add_reader(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)
    }

    /// Forgets `fd`, which lives on elsewhere. One that is closed is forgotten anyway.
    pub(crate) fn forget(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for at most `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<Vec<Ready>, Errno> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut place = [const { MaybeUninit::uninit() }; EVENTS];
        let events = match epoll::wait(&self.epoll, &mut place, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        };
        let ready = events.iter().map(|event| {
            // The fields of the kernel's record are not aligned, so nothing refers to them.
            let (flags, data) = (event.flags, event.data);
            let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            Ready {
                token: data.u64(),
                read: failed || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                write: failed || flags.contains(EventFlags::OUT),
            }
        });
        Ok(ready.collect())
    }

    /// Takes note of a wake-up.
    pub(crate) fn woken(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}
