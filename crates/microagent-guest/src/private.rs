//! What the agent gives a workspace that is not on its disk: directories in memory, with certificates, sockets, and secrets.

use crate::refusal::refusal;
use microagent_protocol::{Boot, PRIVATE, Refusal, RefusalCode, SECRETS, TRUST};
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags, mount, open_tree};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Sockets that lead to the host, by name.
pub(crate) type Sockets = BTreeMap<String, UnixListener>;

/// Longest name of a socket.
const MAX_NAME: usize = 64;

/// Refuses names that are no names of files.
pub(crate) fn check(boot: &Boot) -> Result<(), Refusal> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name =
        |name: &String| (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letters) && !name.starts_with('.');
    if boot.sockets.iter().all(is_name) {
        return Ok(());
    }
    let what = format!("a socket is named by 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`");
    Err(refusal(RefusalCode::BadRequest, what))
}

/// Directories that are mounted below the root of a workspace, without the slash.
pub(crate) fn mount_points(boot: &Boot) -> impl Iterator<Item = &'static str> {
    let private = (has_private(boot)).then_some(PRIVATE);
    private.into_iter().chain(boot.secrets.then_some(SECRETS)).map(|path| path.trim_start_matches('/'))
}

fn has_private(boot: &Boot) -> bool {
    !boot.trust.is_empty() || !boot.sockets.is_empty()
}

/// What the agent keeps of them.
pub(crate) struct Private {
    /// The sockets in [`PRIVATE`].
    pub(crate) sockets: Sockets,
    /// A view of [`SECRETS`], where there is one, in which nothing is mounted, whatever the workspace does with its own.
    pub(crate) secrets: Option<OwnedFd>,
}

/// Makes them, in the workspace, and what is in them from the start.
pub(crate) fn prepare(boot: &Boot, bundle: &[u8]) -> Result<Private, Refusal> {
    let failed = |error: io::Error| {
        refusal(RefusalCode::MountFailed, format!("cannot make the workspace's files in memory: {error}"))
    };
    let mut sockets = Sockets::new();
    if has_private(boot) {
        mount_memory(PRIVATE, c"mode=755,size=16m").map_err(failed)?;
        if !boot.trust.is_empty() {
            fs::write(TRUST, bundle).map_err(failed)?;
        }
        for name in &boot.sockets {
            sockets.insert(name.clone(), listen(name).map_err(failed)?);
        }
    }
    let secrets = boot.secrets.then(prepare_secrets).transpose().map_err(failed)?;
    Ok(Private { sockets, secrets })
}

fn prepare_secrets() -> io::Result<OwnedFd> {
    mount_memory(SECRETS, c"mode=700,size=64m")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, SECRETS, flags)?)
}

fn mount_memory(target: &str, options: &CStr) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(target)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("tmpfs", target, "tmpfs", flags, options).map_err(Errno::into)
}

/// Any user of the workspace may connect: what it leads to is the workspace's.
fn listen(name: &str) -> io::Result<UnixListener> {
    let path = Path::new(PRIVATE).join(format!("{name}.sock"));
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
