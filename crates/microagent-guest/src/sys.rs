//! System calls that no safe wrapper covers. All `unsafe` of the agent is in this file.
//!
//! Most of it is sound for one reason: the agent never starts a thread. Whatever is true of memory and locks in the parent
//! of a fork is therefore true in the child.

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::process::Pid;
use std::ffi::{CStr, CString, c_int};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::{io, ptr};

/// Highest signal number of Linux.
pub(crate) const LAST_SIGNAL: i32 = 64;

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The parent, told the child's process id.
    Parent(Pid),
    /// The child.
    Child,
}

/// Splits the process in two.
pub(crate) fn fork() -> Result<Fork> {
    // SAFETY: there is only one thread, so the child's copy of memory is consistent and no lock in it is held.
    let pid = unsafe { libc::fork() };
    match Pid::from_raw(pid) {
        _ if pid < 0 => Err(last_error()),
        Some(pid) => Ok(Fork::Parent(pid)),
        None => Ok(Fork::Child),
    }
}

/// Strings in the form `execve(2)` takes them: pointers, ended by a null pointer.
pub(crate) struct StringArray {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl StringArray {
    /// Takes in the strings.
    pub(crate) fn new(strings: Vec<CString>) -> StringArray {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(ptr::null());
        StringArray { pointers, _strings: strings }
    }
}

/// Replaces the process image. Returns only when that failed.
pub(crate) fn execve(path: &CStr, argv: &StringArray, env: &StringArray) -> Errno {
    // SAFETY: both arrays end with a null pointer and point at strings they own.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    last_error()
}

/// Ends the process without running any exit handler: those are the parent's.
pub(crate) fn exit_now(status: c_int) -> ! {
    // SAFETY: takes no pointer.
    unsafe { libc::_exit(status) }
}

/// A descriptor that becomes readable when a child has changed state. The signal that would say so is blocked.
pub(crate) fn child_events() -> Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set before the others read it; the descriptor is new, so nobody else owns it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Gives signals back the meaning a fresh program expects: default action, none blocked. `SIGPIPE` is the one the Rust
/// runtime ignores, and `SIGCHLD` the one the agent blocks; handlers do not outlive the start of a program.
pub(crate) fn reset_signals() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: no handler is installed, only the default action; the set is initialised before it is read.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Sends a signal to a process group. Takes any signal number: real-time signals have no name.
pub(crate) fn signal_group(leader: Pid, signal: i32) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::kill(-leader.as_raw_nonzero().get(), signal) }).map(drop)
}

/// Sends a signal to one process.
pub(crate) fn signal_process(process: Pid, signal: i32) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::kill(process.as_raw_nonzero().get(), signal) }).map(drop)
}

/// Kills every process but the caller, which is PID 1.
pub(crate) fn kill_everything() {
    // SAFETY: takes no pointer. The only failure is that there is nothing to kill.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Closes every descriptor but the standard ones and `kept`.
pub(crate) fn close_all_but_standard_and(kept: &OwnedFd) {
    let kept = kept.as_raw_fd().cast_unsigned();
    // SAFETY: called between fork and exec only, where nothing that owns one of these descriptors runs again. An empty range
    // is refused, which is what is wanted.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, kept - 1, 0);
        libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0);
    }
}

/// Gives the calling process a copy of its mount namespace.
pub(crate) fn unshare_mounts() -> Result<()> {
    // SAFETY: affects name spaces only; no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
}

/// Most bytes of entropy taken in one call: the kernel's pool holds 256 bits, more is only mixed in.
const MAX_ENTROPY: usize = 512;

#[repr(C)]
struct RandPoolInfo {
    entropy_count: c_int,
    buf_size: c_int,
    buf: [u8; MAX_ENTROPY],
}

/// `RNDADDENTROPY` and `RNDRESEEDCRNG` of random(4); the `libc` crate does not have them.
const RND_ADD_ENTROPY: libc::Ioctl = 0x4008_5203;
const RND_RESEED_CRNG: libc::Ioctl = 0x5207;

/// Mixes `bytes` into the kernel's random number generator, credits them as true randomness, and has the generator draw a
/// new key at once, so that nothing generated before says anything about what comes after.
pub(crate) fn reseed(random: impl AsFd, bytes: &[u8]) -> Result<()> {
    let bytes = &bytes[..bytes.len().min(MAX_ENTROPY)];
    let size = (bytes.len() as u32).cast_signed();
    let mut info = RandPoolInfo { entropy_count: size * 8, buf_size: size, buf: [0; MAX_ENTROPY] };
    info.buf[..bytes.len()].copy_from_slice(bytes);
    let random = random.as_fd().as_raw_fd();
    // SAFETY: `info` is laid out as the call expects and `buf_size` is not beyond its buffer; the second call has no argument.
    unsafe {
        check(libc::ioctl(random, RND_ADD_ENTROPY, &raw const info))?;
        check(libc::ioctl(random, RND_RESEED_CRNG, 0))?;
    }
    Ok(())
}

/// Maps the beginning of a file as programs are mapped, looks at it and lets it go. Returns its first byte.
pub(crate) fn look_at_mapped(file: impl AsFd, length: usize) -> Result<u8> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: a new private mapping, read within its length and unmapped before anybody else knows of it; the file is a program nobody
    // shortens.
    unsafe {
        let start = libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, fd, 0);
        if start == libc::MAP_FAILED {
            return Err(last_error());
        }
        let first = start.cast::<u8>().read_volatile();
        libc::munmap(start, length);
        Ok(first)
    }
}

/// `EXT4_IOC_RESIZE_FS` of `fs/ext4/ext4.h`; the `libc` crate does not have it.
const RESIZE_EXT4: libc::Ioctl = 0x4008_6610;

/// Makes a mounted ext4 file system, of which a directory is given, as large as so many blocks.
pub(crate) fn resize_ext4(directory: impl AsFd, blocks: u64) -> Result<()> {
    // SAFETY: the call reads one 64-bit number.
    check(unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), RESIZE_EXT4, &raw const blocks) }).map(drop)
}

/// A request about a network interface, about nothing yet.
fn interface_request(name: &CStr) -> libc::ifreq {
    // SAFETY: an all-zero `ifreq` is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The name is cut to its field, and ended by the zeroes.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// Brings a network interface up.
pub(crate) fn interface_up(socket: impl AsFd, name: &CStr) -> Result<()> {
    change_flags(socket, name, |flags| flags | libc::IFF_UP as libc::c_short)
}

/// Takes a network interface down.
pub(crate) fn interface_down(socket: impl AsFd, name: &CStr) -> Result<()> {
    change_flags(socket, name, |flags| flags & !(libc::IFF_UP as libc::c_short))
}

fn change_flags(socket: impl AsFd, name: &CStr, change: impl FnOnce(libc::c_short) -> libc::c_short) -> Result<()> {
    let (socket, mut request) = (socket.as_fd().as_raw_fd(), interface_request(name));
    // SAFETY: both calls read and write the flags, which is the member of the union that `SIOCGIFFLAGS` initialises.
    unsafe {
        check(libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags = change(request.ifr_ifru.ifru_flags);
        check(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request)).map(drop)
    }
}

/// Gives a network interface an address; none if it is unspecified.
pub(crate) fn set_interface_address(socket: impl AsFd, name: &CStr, address: Ipv4Addr) -> Result<()> {
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_addr = socket_address(address);
    // SAFETY: the call reads the address, which has just been set.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFADDR, &raw const request) }).map(drop)
}

/// Says how large the network is that it is in.
pub(crate) fn set_interface_mask(socket: impl AsFd, name: &CStr, mask: Ipv4Addr) -> Result<()> {
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_netmask = socket_address(mask);
    // SAFETY: the call reads the mask, which has just been set.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFNETMASK, &raw const request) }).map(drop)
}

/// Sends everything that goes nowhere else to `gateway`.
pub(crate) fn add_default_route(socket: impl AsFd, gateway: Ipv4Addr) -> Result<()> {
    // SAFETY: an all-zero `rtentry` is valid: its pointer names no device.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: the call reads the route.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCADDRT, &raw const route) }).map(drop)
}

/// `struct sockaddr_in`: family, port, address, and zeroes.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
