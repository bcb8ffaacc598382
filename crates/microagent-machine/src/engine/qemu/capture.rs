//! A machine in the middle of its life, written down while it stands still.
//!
//! RAM is not migrated. What the machine began with lies in a file that it has mapped privately, so what it has written since are pages of
//! its own, which are read out of the process and laid over a copy of that file. A quarter of a second for a migration of everything becomes
//! the time it takes to copy what changed.

use super::stream;
use crate::Error;
use crate::engine::{Machine, Taking};
use microagent_checkpoint::overlay;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

/// Most bytes of the devices of a machine that are taken.
const MAX_DEVICES: u64 = 32 << 20;

/// Writes the devices of a machine that stands still to `to.state`, and what it has made of its RAM over `to.memory`.
pub(super) fn capture(machine: &mut Machine, to: &Taking<'_>, deadline: Instant) -> Result<(), Error> {
    let failed = |source| Error::Memory { source };
    let devices =
        File::from(memfd_create("microagent-devices", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?);
    machine.monitor.save_devices(writing(&devices).map_err(failed)?, deadline)?;
    // QEMU keeps it open until it runs again.
    let identity = devices.metadata().map_err(failed)?;
    machine.files.push((identity.dev(), identity.ino()));
    let mut saved = Vec::new();
    devices.take(MAX_DEVICES).read_to_end(&mut saved).map_err(failed)?;
    let whole = stream::complete(&saved).ok_or(Error::EngineCommand {
        command: "xen-save-devices-state",
        said: "what it wrote is not a migration stream".to_owned(),
    })?;
    (&mut &*to.state).write_all(&whole).map_err(failed)?;
    overlay(machine.pid().cast_signed(), &machine.ram, to.memory)?;
    Ok(())
}

/// The same file, opened to be written to and nothing else: QEMU takes no other for that.
fn writing(file: &File) -> io::Result<File> {
    File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
