//! A guest that stands still, and a channel on which nothing is on its way.
//!
//! From the moment the guest is to be asked, nobody else gets to send: calls, bytes, credit and ends wait, for as long as it takes, before any
//! part of them is written. When the guest has answered, everything it had said before has been taken in. A machine can be paused or written
//! down then, and whoever reads it later meets a guest that is in the middle of nothing.

use super::{Channel, Closed, Shared};
use crate::Error;
use microagent_protocol::{Reply, Request};
use std::sync::Arc;
use std::time::Instant;

/// A guest that stands still. Dropping it has the guest go on, without waiting for that, by the clock it had when it stopped: if its machine
/// was paused in between, its clock is late by that. Whoever paused it says [`Held::proceed`].
pub struct Held {
    shared: Arc<Shared>,
    epoch_ns: u64,
    monotonic_ns: u64,
    /// The guest was asked to stand still, and not to go on.
    asked: bool,
    /// Whether everybody may send when this is dropped.
    releases: bool,
}

impl Channel {
    /// Has the guest stand still, with its secrets removed first if it is to `purge` them. When it does not, it goes on, and so does everybody
    /// who waited to send; that nobody is left standing holds for a guest that answers after `deadline`, too.
    pub fn hold(&self, purge: bool, deadline: Instant) -> Result<Held, Error> {
        self.shared.take_turn(deadline)?;
        // From here on, being dropped releases everybody.
        let mut held =
            Held { shared: Arc::clone(&self.shared), epoch_ns: 0, monotonic_ns: 0, asked: false, releases: true };
        // Asked before, because a guest that does not answer this does not answer the other either, and may be asked nothing then.
        held.epoch_ns = self.shared.ask_epoch(true, deadline)?.1;
        let call = self.shared.call(&Request::Quiesce { purge }, true)?;
        held.asked = true;
        match call.wait(Some(deadline)) {
            Ok(Reply::Quiet { monotonic_ns }) => {
                held.monotonic_ns = monotonic_ns;
                Ok(held)
            }
            Ok(reply) => Err(self.shared.violated(format!("the guest was to stand still and answered {reply:?}"))),
            Err(error) => {
                // One that is late is told to go on, for whenever it has come to stand still.
                held.asked = !matches!(error, Error::Refused(_));
                Err(error)
            }
        }
    }
}

impl Held {
    /// What the guest's monotonic clock said when it stood still, in nanoseconds.
    pub fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    /// [`Channel::epoch_ns`], which waits like everybody else as long as this is held.
    pub fn epoch_ns(&self, deadline: Instant) -> Result<u64, Error> {
        super::clock::best_of(|| self.shared.ask_epoch(true, deadline))
    }

    /// Has the guest go on, with its clock set: `epoch_ns` is the host's at the zero of the guest's monotonic one. Everybody who waited to
    /// send goes on, too, whether or not the guest answers.
    pub fn proceed(mut self, epoch_ns: u64, deadline: Instant) -> Result<(), Error> {
        self.asked = false;
        let call = self.shared.call(&Request::Proceed { epoch_ns }, true)?;
        let shared = Arc::clone(&self.shared);
        drop(self);
        match call.wait(Some(deadline))? {
            Reply::Done => Ok(()),
            reply => Err(shared.violated(format!("the guest was to go on and answered {reply:?}"))),
        }
    }

    /// Leaves the guest as it is, because its machine ends. Everybody who waits to send learns of that when it has.
    pub fn let_die(self) {
        let mut held = self;
        (held.asked, held.releases) = (false, false);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.asked {
            // A guest that is gone needs not go on.
            let _ = self.shared.call(&Request::Proceed { epoch_ns: self.epoch_ns }, true);
        }
        if self.releases {
            self.shared.release();
        }
    }
}

impl Shared {
    /// Has everybody else wait from now on. Of two who want that, one waits here.
    fn take_turn(&self, deadline: Instant) -> Result<(), Error> {
        self.wait_until(Some(deadline), |state| (!std::mem::replace(&mut state.held, true)).then_some(()))
    }

    /// Lets everybody send.
    fn release(&self) {
        self.lock().held = false;
        self.changed.notify_all();
    }

    /// Ends the conversation with a guest that answered what it may not.
    fn violated(&self, what: String) -> Error {
        let violation = Closed::Violation(what);
        self.hang_up(violation.clone());
        violation.error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microagent_protocol::{Decoder, Frame, Kind};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    const STALL: Duration = Duration::from_millis(200);

    /// Answers the next request of the host.
    fn answer(guest: &mut UnixStream, decoder: &mut Decoder, reply: &Reply) -> Request {
        let frame = loop {
            if let Some(frame) = decoder.next_frame().unwrap() {
                break frame;
            }
            let mut buffer = [0; 4096];
            let count = guest.read(&mut buffer).unwrap();
            decoder.extend(&buffer[..count]);
        };
        let mut wire = Vec::new();
        Frame::new(Kind::Reply, frame.id, serde_json::to_vec(reply).unwrap()).encode(&mut wire);
        guest.write_all(&wire).unwrap();
        serde_json::from_slice(&frame.payload).unwrap()
    }

    #[test]
    fn who_waits_for_a_guest_that_stands_still_is_not_taken_for_stalled() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let channel = Channel::open_with(ours, STALL).unwrap();
        let mut decoder = Decoder::default();
        let holder = channel.clone();
        let soon = || Instant::now() + Duration::from_mins(1);
        let holding = thread::spawn(move || holder.hold(false, soon()).unwrap());
        answer(&mut guest, &mut decoder, &Reply::Time { monotonic_ns: 1 });
        answer(&mut guest, &mut decoder, &Reply::Quiet { monotonic_ns: 2 });
        let held = holding.join().unwrap();
        let caller = channel.clone();
        let waiting = thread::spawn(move || caller.call(&Request::Sync).unwrap().wait(Some(soon())));
        // Nothing arrives for several times as long as a guest may leave bytes untaken.
        guest.set_read_timeout(Some(4 * STALL)).unwrap();
        assert_eq!(guest.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        guest.set_read_timeout(None).unwrap();
        let going = thread::spawn(move || held.proceed(7, soon()));
        assert_eq!(answer(&mut guest, &mut decoder, &Reply::Done), Request::Proceed { epoch_ns: 7 });
        going.join().unwrap().unwrap();
        assert_eq!(answer(&mut guest, &mut decoder, &Reply::Done), Request::Sync);
        assert_eq!(waiting.join().unwrap().unwrap(), Reply::Done);
    }
}
