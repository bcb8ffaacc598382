//! Memory for the buffers of connections, straight from the kernel: a page that was never touched costs nothing, which
//! is most of them in most connections, and all are given back when the connection ends. The allocator promises
//! neither.

#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use std::ffi::c_void;
use std::ptr::NonNull;

/// A socket in a set of its own (a stack looks at every socket of a set at each packet), with the memory of its
/// buffers.
pub(crate) struct Home {
    // Before its memory: fields are dropped in this order.
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    _pages: Pages,
}

impl Home {
    /// A socket that can hold `receive` and `send` bytes.
    pub(crate) fn new(receive: usize, send: usize) -> Result<Home, Errno> {
        let pages = Pages::new(receive + send)?;
        // SAFETY: the mapping is `receive + send` bytes, readable, writable and zeroed. Nothing else refers to it. The
        // slices claim to live for ever, and are kept in `sockets` alone, which lends them out no longer than itself,
        // is dropped before `_pages`, and never leaves `Home` (`parts` lends it, and `Home` is never taken apart).
        let (receive, send) = unsafe {
            let bytes = pages.at.cast::<u8>();
            let receive_at = NonNull::slice_from_raw_parts(bytes, receive).as_mut();
            (receive_at, NonNull::slice_from_raw_parts(bytes.add(receive), send).as_mut())
        };
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send)));
        Ok(Home { sockets, handle, _pages: pages })
    }

    /// The set, as a stack wants it.
    pub(crate) fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    /// The same, to change it.
    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

struct Pages {
    at: NonNull<c_void>,
    length: usize,
}

// SAFETY: memory is the same in every thread, and this is the only reference to it but for those in the same `Home`.
unsafe impl Send for Pages {}

impl Pages {
    fn new(length: usize) -> Result<Pages, Errno> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel wants it: nothing is there.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, MapFlags::PRIVATE) }?;
        NonNull::new(at).map(|at| Pages { at, length }).ok_or(Errno::NOMEM)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it is the mapping made above, whole, and whoever referred to it is gone.
        let _ = unsafe { munmap(self.at.as_ptr(), self.length) };
    }
}
