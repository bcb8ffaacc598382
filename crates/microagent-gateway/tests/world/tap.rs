//! The guest's network device.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::ioctl::{Setter, ioctl};

/// `TUNSETIFF`, `IFF_TAP` and `IFF_NO_PI` of Linux's `if_tun.h`.
const SET_INTERFACE: u32 = 0x4004_54ca;
const TAP: u16 = 0x0002;
const NO_HEADER: u16 = 0x1000;

/// `struct ifreq` of Linux's `if.h`, as far as that call looks at it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Makes the device `name` in the network namespace of the calling thread. It is there as long as the file is: a read
/// takes one frame that was sent by it, a write lets one arrive. Neither waits.
pub(crate) fn open(name: &str) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open("/dev/net/tun")?;
    let mut request = Request { name: [0; 16], flags: TAP | NO_HEADER, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the kernel reads a `struct ifreq` of 40 bytes, which `Request` is.
    unsafe { ioctl(file.as_fd(), Setter::<SET_INTERFACE, Request>::new(request)) }?;
    Ok(file)
}

const _: () = assert!(size_of::<Request>() == 40);
