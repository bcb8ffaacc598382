//! The network interface: one, with one address, on a link where only the gateway is.

use crate::refusal::refusal;
use crate::sys;
use microagent_protocol::{Network, Refusal, RefusalCode};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::ffi::CStr;
use std::net::Ipv4Addr;

/// What the kernel calls the first interface.
const INTERFACE: &CStr = c"eth0";

/// Keeps IPv6 from the interface.
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6";

/// Everything goes out through the gateway, and comes from the address.
pub(crate) fn bring_up(network: &Network) -> Result<(), Refusal> {
    let failed = |action: &'static str| {
        move |error: Errno| refusal(RefusalCode::System, format!("cannot {action} of the network interface: {error}"))
    };
    // IPv6 does not pass the gateway, so nobody is to try it. A kernel without it has no such file.
    let _ = std::fs::write(NO_IPV6, "1");
    let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix.min(32))).unwrap_or(0);
    let socket = socket().map_err(failed("set up the address"))?;
    sys::set_interface_address(&socket, INTERFACE, network.address).map_err(failed("set the address"))?;
    sys::set_interface_mask(&socket, INTERFACE, Ipv4Addr::from(mask)).map_err(failed("set the address mask"))?;
    sys::interface_up(&socket, INTERFACE).map_err(failed("begin the use"))?;
    sys::add_default_route(&socket, network.gateway).map_err(failed("set the gateway"))
}

/// Leaves it as it was. Address and route go with it.
pub(crate) fn take_down() -> Result<(), Refusal> {
    let failed = |error| refusal(RefusalCode::System, format!("cannot end the use of the network interface: {error}"));
    let socket = socket().map_err(failed)?;
    match sys::interface_down(&socket, INTERFACE) {
        // A machine without one.
        Ok(()) | Err(Errno::NODEV) => {}
        Err(error) => return Err(failed(error)),
    }
    match sys::set_interface_address(&socket, INTERFACE, Ipv4Addr::UNSPECIFIED) {
        Ok(()) | Err(Errno::NODEV | Errno::ADDRNOTAVAIL) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}
