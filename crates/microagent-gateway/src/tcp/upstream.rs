//! The other end of a connection: a socket of the host, of the server or its proxy, or of an interceptor.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The other end of a connection.
pub(crate) struct Upstream {
    fd: OwnedFd,
    /// Something may be read, or written: so until it turns out that it cannot.
    read: bool,
    write: bool,
    /// What was read before anybody wanted it.
    rest: Vec<u8>,
    /// There is no more to read.
    ended: bool,
    /// Nothing more is written.
    shut: bool,
    /// Nothing more can be.
    broken: bool,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    Later,
    End,
    /// The connection is broken.
    Reset,
}

impl Upstream {
    /// Begins to connect.
    pub(crate) fn connect(to: SocketAddr) -> Result<Upstream, Errno> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        // A connection may be idle for days. Only whether the other end is still there is worth knowing.
        sockopt::set_socket_keepalive(&fd, true)?;
        match rustix::net::connect(&fd, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Upstream::over(fd, false)),
            Err(errno) => Err(errno),
        }
    }

    /// One that is open already.
    pub(crate) fn open(fd: OwnedFd) -> Upstream {
        Upstream::over(fd, true)
    }

    fn over(fd: OwnedFd, open: bool) -> Upstream {
        Upstream { fd, read: open, write: open, rest: Vec::new(), ended: false, shut: false, broken: false }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// It, for somebody else. What was read of it already is lost.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Something can be done that could not be before.
    pub(crate) fn ready(&mut self, read: bool, write: bool) {
        self.read |= read;
        self.write |= write;
        // Nobody reads any more who would be told.
        self.broken |= self.ended && matches!(sockopt::socket_error(&self.fd), Ok(Err(_)));
    }

    /// Whether nothing comes any more and nothing gets through.
    pub(crate) fn is_dead(&self) -> bool {
        self.ended && self.broken
    }

    /// Whether it is connected by now.
    pub(crate) fn is_connected(&mut self) -> Result<bool, Errno> {
        match sockopt::socket_error(&self.fd)? {
            Ok(()) => Ok(self.write),
            // It was, and is no more. Before that a reset is a refusal.
            Err(Errno::CONNRESET | Errno::PIPE) => {
                self.broken = true;
                Ok(true)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Puts `bytes` before everything that will be read.
    pub(crate) fn put_back(&mut self, bytes: Vec<u8>) {
        self.rest = bytes;
    }

    /// Whether something was [put back](Upstream::put_back) that nobody has read.
    pub(crate) fn has_spoken(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether there is something to read, without reading it.
    pub(crate) fn peek(&mut self) -> Read {
        if !self.rest.is_empty() {
            return Read::Bytes(self.rest.len());
        }
        self.receive(&mut [0], RecvFlags::PEEK)
    }

    /// Reads.
    pub(crate) fn read(&mut self, place: &mut [u8]) -> Read {
        if !self.rest.is_empty() {
            let count = self.rest.len().min(place.len());
            place[..count].copy_from_slice(&self.rest[..count]);
            self.rest.drain(..count);
            return Read::Bytes(count);
        }
        let read = self.receive(place, RecvFlags::empty());
        self.ended |= matches!(read, Read::End | Read::Reset);
        read
    }

    fn receive(&mut self, place: &mut [u8], flags: RecvFlags) -> Read {
        if self.ended || !self.read || place.is_empty() {
            return Read::Later;
        }
        loop {
            match rustix::net::recv(&self.fd, &mut *place, flags | RecvFlags::DONTWAIT) {
                // An error is reported once: by the writing, here.
                Ok((0, _)) => return if self.broken { Read::Reset } else { Read::End },
                Ok((count, _)) => return Read::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.read = false;
                    return Read::Later;
                }
                Err(_) => return Read::Reset,
            }
        }
    }

    /// Writes what can be written of `bytes`. Who no longer reads may still be saying why, so a broken way there is not
    /// an end: what is written is lost, and the reading will tell.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        while self.write && !self.shut && !self.broken {
            match rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => return count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.write = false,
                Err(_) => (self.broken, self.read) = (true, true),
            }
        }
        if self.shut || self.broken { bytes.len() } else { 0 }
    }

    /// Says that nothing more will be written.
    pub(crate) fn shut(&mut self) {
        if !std::mem::replace(&mut self.shut, true) {
            let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
        }
    }

    /// Breaks it off, so that the other end sees that it was.
    pub(crate) fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
    }
}
