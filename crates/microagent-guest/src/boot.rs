//! From the start of PID 1 to the greeting: all that can be done before it is known whose machine this is.

use crate::agent::{Agent, Closed};
use crate::identity::uptime_ms;
use crate::modules::{self, Modules, Stage};
use crate::port::{Port, PortError};
use crate::processors;
use crate::sys;
use crate::{command, disks};
use microagent_protocol::{Frame, Hello, Kind, PROTOCOL_VERSION};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Open files the agent may have: four descriptors for each command at its limit of commands, and room to spare.
const OPEN_FILES: u64 = 8192;

/// Why the machine cannot serve anybody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A file system of the kernel's own did not mount.
    #[error("cannot mount `{0}`: {1}")]
    Mount(&'static str, Errno),
    /// Programs expect at least this one.
    #[error("cannot bring up the loopback interface: {0}")]
    Loopback(Errno),
    /// There is no channel to the host.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The loop cannot start.
    #[error(transparent)]
    Agent(#[from] Closed),
}

/// Boots the machine and greets the host.
pub(crate) fn boot() -> Result<Agent, BootError> {
    mount_kernel_file_systems()?;
    load_modules();
    processors::bring_up();
    processors::stay_on_first();
    // Without it fewer commands run at once. Memory needs no such care: the kernel never kills PID 1 for it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), ..command::OPEN_FILES });
    loopback_up()?;
    let port = Port::open()?;
    port.greet(&hello())?;
    Ok(Agent::new(port)?)
}

fn mount_kernel_file_systems() -> Result<(), BootError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    for (target, kind, flags) in
        [("/proc", "proc", flags), ("/sys", "sysfs", flags), ("/dev", "devtmpfs", MountFlags::NOSUID)]
    {
        mount(kind, target, kind, flags, c"").map_err(|error| BootError::Mount(target, error))?;
    }
    Ok(())
}

/// Everything is loaded before the greeting, because the guest may be frozen right after it and every copy then has it.
fn load_modules() {
    let modules = Modules::read();
    modules.load(Stage::Boot);
    disks::without_binding(|| modules.load(Stage::Disk));
    modules.load(Stage::Network);
    modules.load(Stage::Vsock);
    modules::discard();
}

fn loopback_up() -> Result<(), BootError> {
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| sys::interface_up(socket, c"lo"))
        .map_err(BootError::Loopback)
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        uptime_ms: uptime_ms(),
    };
    let payload = serde_json::to_vec(&hello).expect("a greeting has only string keys");
    let mut bytes = Vec::new();
    Frame::new(Kind::Hello, 0, payload).encode(&mut bytes);
    bytes
}
