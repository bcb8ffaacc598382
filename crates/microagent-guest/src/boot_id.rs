//! The boot id of a copy.
//!
//! The kernel draws `/proc/sys/kernel/random/boot_id` once, and copies of a machine have the same. A file of the agent's is mounted over it in
//! the workspace of a copy. Where it goes was opened when the workspace was built, so that the workspace has no say in that.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// The kernel's file.
const KERNELS: &str = "/proc/sys/kernel/random/boot_id";

/// The file that takes its place, in the agent's own root, which is in memory.
const OURS: &str = "/run/boot-id";

/// The place of the boot id in a workspace.
#[derive(Debug)]
pub(crate) struct BootId {
    /// The kernel's file; a kernel may be built without.
    place: Option<OwnedFd>,
    /// Our file has taken its place, unless the workspace had taken that away.
    settled: bool,
}

impl BootId {
    /// Finds it, from within the workspace.
    pub(crate) fn find() -> BootId {
        let place = rustix::fs::open(KERNELS, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
        BootId { place, settled: false }
    }

    /// Has the workspace read `text`. `inside` does something within the workspace.
    pub(crate) fn change(
        &mut self,
        text: &str,
        inside: impl FnOnce(&dyn Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        // The length never changes, so nobody finds it half written.
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o444).open(OURS)?;
        file.write_all_at(format!("{text}\n").as_bytes(), 0)?;
        if !self.settled {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let view = open_tree(CWD, OURS, flags)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            match inside(&|| move_mount(&view, c"", place, c"", flags)) {
                // The workspace has taken its `/proc` away, and with it the place.
                Ok(()) | Err(Errno::INVAL) => self.settled = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
