//! The virtio-serial port that is the channel to the host.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The name by which the host labels the port.
const NAME: &str = "microagent";

const PORTS: &str = "/sys/class/virtio-ports";

/// The kernel learns of the port from a conversation with the device that starts when the driver is loaded and takes a few
/// milliseconds, or a few hundred under emulation on a busy host. Past this the port is not coming.
const APPEARANCE_LIMIT: Duration = Duration::from_secs(20);

/// The multicast group in which the kernel itself announces devices, as opposed to a device daemon.
const KERNEL_EVENTS: u32 = 1;

/// Why there is no channel to the host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// The host attached no such port, or its driver is missing.
    #[error("no virtio-serial port named `{NAME}` after {} s", APPEARANCE_LIMIT.as_secs())]
    Missing,
    /// It is there, and cannot be used.
    #[error("cannot {action} the virtio-serial port named `{NAME}`: {source}")]
    Unusable {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: Errno,
    },
}

/// The open port.
#[derive(Debug)]
pub(crate) struct Port(OwnedFd);

impl Port {
    /// Finds the port, waiting for it to appear if need be, and opens it.
    pub(crate) fn open() -> Result<Port, PortError> {
        let device = match find() {
            Some(device) => device,
            None => wait_for()?,
        };
        let fd = rustix::fs::open(device, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| PortError::Unusable { action: "open", source })?;
        Ok(Port(fd))
    }

    /// Sends the first bytes, waiting for the host to be connected, and makes the port non-blocking from then on.
    ///
    /// A port whose host is not connected yet looks exactly like one whose host has left: reading gives the end of file,
    /// polling a hang-up. A blocking write is the one operation that waits.
    pub(crate) fn greet(&self, mut bytes: &[u8]) -> Result<(), PortError> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.0, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(source) => return Err(PortError::Unusable { action: "write to", source }),
            }
        }
        rustix::io::ioctl_fionbio(&self.0, true).map_err(|source| PortError::Unusable { action: "set up", source })
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn find() -> Option<PathBuf> {
    let ports = std::fs::read_dir(PORTS).ok()?;
    ports.filter_map(Result::ok).find_map(|port| {
        let name = std::fs::read_to_string(port.path().join("name")).ok()?;
        (name.trim_end() == NAME).then(|| PathBuf::from("/dev").join(port.file_name()))
    })
}

/// Looks again after every device event. The name becomes known after the device does, so only the kernel's own events,
/// which include changes, tell the moment.
fn wait_for() -> Result<PathBuf, PortError> {
    let events = device_events().map_err(|source| PortError::Unusable { action: "wait for", source })?;
    let deadline = Instant::now() + APPEARANCE_LIMIT;
    loop {
        if let Some(device) = find() {
            return Ok(device);
        }
        let left = deadline.checked_duration_since(Instant::now()).ok_or(PortError::Missing)?;
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut interest = [PollFd::new(&events, PollFlags::IN)];
        match poll(&mut interest, Some(&timeout)) {
            Ok(0) => return Err(PortError::Missing),
            // What the event says does not matter, and a lost one (ENOBUFS) is an event too.
            Ok(_) => drop(rustix::net::recv(&events, &mut [0; 4096][..], RecvFlags::DONTWAIT)),
            Err(Errno::INTR) => {}
            Err(source) => return Err(PortError::Unusable { action: "wait for", source }),
        }
    }
}

fn device_events() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_EVENTS))?;
    Ok(socket)
}
