//! The two directions of the link: ethernet frames, each after its length in four bytes, the highest first, in a stream
//! (QEMU's `-netdev socket` and `-netdev stream`).

use crate::address::{GATEWAY_MAC, GUEST_MAC, MTU};
use crate::ethernet::{HEADER, Kind};
use crate::ipv4;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Bytes of the length.
const PREFIX: usize = 4;
/// Longest frame: the header, perhaps with a tag (802.1Q), and a packet.
const MAX_FRAME: usize = HEADER + 4 + MTU as usize;
/// How much is read at once, and so how much one turn has to do with at most.
const READ: usize = 512 << 10;
/// When this much waits to be written, whoever can wait does.
const FULL: usize = 512 << 10;
/// Room beyond that for those who cannot.
const SLACK: usize = 256 << 10;

/// The link is over, or no longer one.
#[derive(Debug)]
pub(crate) struct Ended;

/// What comes from the guest.
pub(crate) struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { bytes: vec![0; READ].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Reads what is there. Whether there may be more.
    pub(crate) fn fill(&mut self, link: &OwnedFd) -> Result<bool, Ended> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match rustix::net::recv(link, &mut self.bytes[self.end..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Ended),
            Ok((count, _)) => {
                self.end += count;
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::INTR) => Ok(true),
            Err(_) => Err(Ended),
        }
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, Ended> {
        let rest = &self.bytes[self.start..self.end];
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(Ended);
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.start += PREFIX + length;
        Ok(Some(frame))
    }
}

/// What goes to the guest.
pub(crate) struct Outbox {
    link: Arc<OwnedFd>,
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Outbox {
    pub(crate) fn new(link: Arc<OwnedFd>) -> Outbox {
        let bytes = vec![0; FULL + SLACK + PREFIX + MAX_FRAME].into_boxed_slice();
        Outbox { link, bytes, start: 0, end: 0, ended: false }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether there is room for those who can wait for it.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.end - self.start >= FULL {
            let _ = self.flush();
        }
        self.end - self.start < FULL
    }

    /// Writes as much as the link takes.
    pub(crate) fn flush(&mut self) -> Result<(), Ended> {
        while !self.is_empty() && !self.ended {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&*self.link, &self.bytes[self.start..self.end], flags) {
                Ok(count) => self.start += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.ended = true,
            }
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.ended { Err(Ended) } else { Ok(()) }
    }

    /// A frame with a payload of `length` bytes, which `write` fills. Where even the slack is used up nothing of it is
    /// sent: the guest takes what is sent, or has itself to blame.
    pub(crate) fn frame<R>(&mut self, kind: Kind, length: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let whole = PREFIX + HEADER + length;
        if self.bytes.len() - self.end < whole {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let at = self.end;
        if self.bytes.len() - at < whole {
            return write(&mut vec![0; length]);
        }
        let (header, payload) = self.bytes[at..at + whole].split_at_mut(PREFIX + HEADER);
        let bytes = u32::try_from(HEADER + length).unwrap_or(u32::MAX);
        header[..4].copy_from_slice(&bytes.to_be_bytes());
        header[4..10].copy_from_slice(&GUEST_MAC);
        header[10..16].copy_from_slice(&GATEWAY_MAC);
        header[16..18].copy_from_slice(&kind.number().to_be_bytes());
        self.end = at + whole;
        write(payload)
    }

    /// An IPv4 packet from `source` to the guest with `length` bytes of `protocol`, which `write` fills.
    pub(crate) fn packet(
        &mut self,
        source: Ipv4Addr,
        to: Ipv4Addr,
        protocol: u8,
        length: usize,
        write: impl FnOnce(&mut [u8]),
    ) {
        if ipv4::HEADER + length > usize::from(MTU) {
            return;
        }
        self.frame(Kind::Ipv4, ipv4::HEADER + length, |packet| {
            let (header, payload) = packet.split_at_mut(ipv4::HEADER);
            ipv4::write_header(header, source, to, protocol, length);
            write(payload);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn what_is_put_in_the_outbox_comes_out_of_an_inbox() {
        let (here, there) = pair();
        let mut out = Outbox::new(Arc::new(here));
        out.frame(Kind::Ipv4, 3, |payload| payload.copy_from_slice(b"abc"));
        out.frame(Kind::Arp, 0, |_| ());
        out.flush().unwrap();
        let mut inbox = Inbox::new();
        assert!(inbox.fill(&there).unwrap());
        assert!(inbox.next().unwrap().unwrap().ends_with(b"\x08\x00abc"));
        assert!(inbox.next().unwrap().unwrap().ends_with(b"\x08\x06"));
        assert!(inbox.next().unwrap().is_none() && !inbox.fill(&there).unwrap());
        drop(out);
        assert!(inbox.fill(&there).is_err());
    }

    #[test]
    fn a_link_that_is_full_says_so_and_goes_on_when_it_is_not() {
        let (here, there) = pair();
        let mut out = Outbox::new(Arc::new(here));
        let mut count = 0;
        while out.has_room() {
            out.frame(Kind::Ipv4, 60_000, |payload| payload.fill(7));
            count += 1;
        }
        // What cannot wait is still taken for a while, and then dropped.
        for _ in 0..100 {
            out.frame(Kind::Ipv4, 60_000, |payload| payload.fill(7));
        }
        let (mut inbox, mut read) = (Inbox::new(), 0);
        while inbox.fill(&there).unwrap() {
            while let Some(frame) = inbox.next().unwrap() {
                assert!(frame.len() == HEADER + 60_000 && frame[HEADER..].iter().all(|byte| *byte == 7));
                read += 1;
            }
            out.flush().unwrap();
        }
        assert!(out.is_empty() && out.has_room() && read > count && read < count + 100);
    }

    #[test]
    fn a_frame_that_is_too_long_ends_the_link() {
        let (here, there) = pair();
        rustix::io::write(&here, &u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes()).unwrap();
        let mut inbox = Inbox::new();
        inbox.fill(&there).unwrap();
        assert!(inbox.next().is_err());
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_cut(frames in proptest::collection::vec(0usize..300, 0..20), cut in 1usize..97) {
            let (here, there) = pair();
            let stream: Vec<u8> = frames.iter().enumerate().flat_map(|(at, length)| {
                let prefix = u32::try_from(*length).unwrap().to_be_bytes();
                prefix.into_iter().chain(std::iter::repeat_n(u8::try_from(at).unwrap(), *length)).collect::<Vec<_>>()
            }).collect();
            let (mut inbox, mut seen) = (Inbox::new(), Vec::new());
            for part in stream.chunks(cut) {
                rustix::io::write(&here, part).unwrap();
                inbox.fill(&there).unwrap();
                while let Some(frame) = inbox.next().unwrap() {
                    prop_assert!(frame.iter().all(|byte| usize::from(*byte) == seen.len()));
                    seen.push(frame.len());
                }
            }
            prop_assert_eq!(seen, frames);
        }
    }
}
