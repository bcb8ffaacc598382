//! What QEMU does between its guest's device and our end of the link.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

/// Longer than any frame that there is room for.
const MOST: usize = 65536 + 18;

/// Two threads that pass frames on until the link is over or this is dropped.
pub(crate) struct Relay {
    link: Arc<Mutex<UnixStream>>,
    end: UnixStream,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Between a device, see [`super::tap::open`], and the guest's end of the link.
    pub(crate) fn start(tap: File, link: UnixStream) -> Relay {
        let another = || link.try_clone().expect("duplicating the link");
        let (incoming, end, over) = (another(), another(), another());
        let (tap, link) = (Arc::new(tap), Arc::new(Mutex::new(link)));
        let from_guest = thread::spawn({
            let (tap, link) = (Arc::clone(&tap), Arc::clone(&link));
            move || from_guest(&tap, &link, &over)
        });
        let to_guest = thread::spawn(move || to_guest(&tap, incoming));
        Relay { link, end, threads: vec![from_guest, to_guest] }
    }

    /// Sends bytes between two frames of the guest. False if the link is over.
    pub(crate) fn send(&self, bytes: &[u8]) -> bool {
        send(&self.link, bytes)
    }

    /// Whether the other end has closed the link.
    pub(crate) fn is_over(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Wakes both threads, whatever they wait for. Fails if the other end was first.
        let _ = self.end.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            // What a thread panicked of, it has said.
            let _ = thread.join();
        }
    }
}

fn send(link: &Mutex<UnixStream>, bytes: &[u8]) -> bool {
    link.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes).is_ok()
}

fn from_guest(mut tap: &File, link: &Mutex<UnixStream>, over: &UnixStream) {
    let mut buffer = vec![0; 4 * (4 + MOST)];
    let mut filled = 0;
    loop {
        let frame = filled + 4;
        // As many at once as there are, and as there is room for.
        let count = if frame + MOST <= buffer.len() { tap.read(&mut buffer[frame..]) } else { Ok(0) };
        match count {
            Ok(count) if count > 0 => {
                let length = u32::try_from(count).expect("at most the buffer").to_be_bytes();
                buffer[filled..frame].copy_from_slice(&length);
                filled = frame + count;
            }
            _ if filled > 0 => {
                if !send(link, &buffer[..filled]) {
                    return;
                }
                filled = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let tap = PollFd::from_borrowed_fd(tap.as_fd(), PollFlags::IN);
                let over = PollFd::from_borrowed_fd(over.as_fd(), PollFlags::empty());
                let mut ready = [tap, over];
                poll(&mut ready, None).expect("waiting for a frame or the end");
                if !ready[1].revents().is_empty() {
                    return;
                }
            }
            // The device is gone.
            _ => return,
        }
    }
}

fn to_guest(mut tap: &File, link: UnixStream) {
    let mut link = BufReader::with_capacity(4 * MOST, link);
    let (mut length, mut frame) = ([0; 4], vec![0; MOST]);
    while link.read_exact(&mut length).is_ok() {
        let length = u32::from_be_bytes(length) as usize;
        assert!(length <= MOST, "the gateway sends a frame of {length} bytes");
        if link.read_exact(&mut frame[..length]).is_err() {
            return;
        }
        // A device that is down takes nothing, like one whose cable is out.
        let _ = tap.write(&frame[..length]);
    }
}
