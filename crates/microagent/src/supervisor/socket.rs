//! The socket of a supervisor.
//!
//! The address of a Unix socket holds 108 bytes, and the path of a workspace may be longer. So the socket is bound and reached through the
//! directory's descriptor, by a path under `/proc` whose length is always the same.

use microagent_state::Workspace;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Listens for clients of the workspace. Needs its lease: whatever is in the socket's place is what a dead supervisor left.
pub(crate) fn listen(workspace: &Workspace) -> io::Result<UnixListener> {
    match std::fs::remove_file(workspace.socket()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = open(workspace.path())?;
    UnixListener::bind(through(&directory))
}

/// Connects to whoever runs the workspace.
pub(crate) fn connect(workspace: &Workspace) -> io::Result<UnixStream> {
    let directory = open(workspace.path())?;
    UnixStream::connect(through(&directory))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn through(directory: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(Workspace::SOCKET)
}
