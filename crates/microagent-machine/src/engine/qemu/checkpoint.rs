//! QEMU as it is after a rehearsal, with the guest's code translated.
//!
//! A QEMU that loads a frozen machine has everything but what takes longest in emulation: it translates the guest's code anew. So the
//! process itself is checkpointed, stopped, with nothing open that belongs to a run, and machines go on from copies of it: no start, no
//! loading, and translated code that all copies share until they change it.

use super::filter;
use crate::Error;
use crate::engine::machine::{Logs, Machine, Origin, Sockets};
use crate::engine::{DiskSpec, MachineSpec, Restore};
use microagent_checkpoint::{Capture, Checkpoint, Provided, capture};
use microagent_protocol::Hello;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

/// What a copy is given: its ends of the sockets, and the RAM.
const CHANNEL: u32 = Checkpoint::FIRST_SLOT;
const CONSOLE: u32 = CHANNEL + 1;
const MONITOR: u32 = CHANNEL + 2;
const RAM: u32 = CHANNEL + 3;
const LINK: u32 = CHANNEL + 4;
/// One that is captured with its disks is given others.
const FIRST_DISK: u32 = CHANNEL + 5;

/// Most disks there are slots for.
const MAX_DISKS: usize = 32;

/// Stops a machine and writes its QEMU to `checkpoint`. Returns what the guest said when it was up.
pub(super) fn take(
    machine: &mut Machine,
    memory: &File,
    checkpoint: &Checkpoint,
    deadline: Instant,
) -> Result<Hello, Error> {
    let hello = machine.channel().hello(deadline)?;
    machine.monitor.stop(deadline)?;
    let provided = Provided { mapped: memory, content: memory, slot: RAM };
    write(machine, checkpoint, provided, &[])?;
    Ok(hello)
}

/// Writes the QEMU of a machine that stands still in the middle of its life to `checkpoint`, disks and all. `memory` holds its RAM as it is
/// now. The machine can go on afterwards.
pub(super) fn take_alive(
    machine: &mut Machine,
    spec: &MachineSpec,
    memory: &File,
    checkpoint: &Checkpoint,
) -> Result<(), Error> {
    if spec.disks.len() > MAX_DISKS {
        return Err(Error::Checkpoint(microagent_checkpoint::Error::Busy));
    }
    let identity = |disk: &DiskSpec| {
        let file = std::fs::metadata(&disk.path);
        let file = file.map_err(|source| Error::OpenDisk { path: disk.path.clone(), source })?;
        Ok((file.dev(), file.ino()))
    };
    let disks: Vec<_> = spec.disks.iter().map(identity).collect::<Result<_, Error>>()?;
    let disks: Vec<_> = disks.into_iter().zip(FIRST_DISK..).collect();
    let mapped = machine.ram.try_clone().map_err(|source| Error::Memory { source })?;
    let provided = Provided { mapped: &mapped, content: memory, slot: RAM };
    write(machine, checkpoint, provided, &disks)
}

fn write(
    machine: &Machine,
    checkpoint: &Checkpoint,
    provided: Provided<'_>,
    disks: &[((u64, u64), u32)],
) -> Result<(), Error> {
    let ends = [CHANNEL, CONSOLE, MONITOR].into_iter().zip(machine.ends.iter().copied());
    let link = machine.ends.get(3).map(|&link| (link, LINK));
    let sockets = ends.map(|(slot, end)| (end, slot)).chain(link);
    let given: Vec<_> = sockets.chain(disks.iter().copied()).collect();
    capture(&Capture {
        pid: machine.pid().cast_signed(),
        plan: &checkpoint.plan,
        memory: &checkpoint.memory,
        provided: Some(provided),
        forgotten: &machine.files,
        given: &given,
        filter: &filter::instructions(),
    })?;
    Ok(())
}

/// Starts a copy, with the disks of `spec`: in the place of those it was captured with, or of none.
pub(super) fn go_on(spec: &MachineSpec, checkpoint: &Checkpoint, from: &Restore<'_>) -> Result<Machine, Error> {
    let mut sockets = Sockets::new(spec.network)?;
    let disks = spec.disks.iter().map(DiskSpec::open).collect::<Result<Vec<File>, Error>>()?;
    let monitor = sockets.monitor();
    monitor.listen();
    if !from.with_disks {
        for (index, (disk, file)) in spec.disks.iter().zip(&disks).enumerate() {
            monitor.attach(index, disk.mode, file)?;
        }
    }
    monitor.go_on()?;
    let mut given: Vec<(u32, BorrowedFd<'_>)> = vec![
        (CHANNEL, sockets.channel_end()),
        (CONSOLE, sockets.console_end()),
        (MONITOR, sockets.monitor_end()),
        (RAM, from.memory.as_fd()),
    ];
    given.extend(sockets.link_end().map(|link| (LINK, link)));
    if from.with_disks {
        given.extend((FIRST_DISK..).zip(disks.iter().map(AsFd::as_fd)));
    }
    let launch = |source| Error::Launch { program: "a checkpoint of QEMU".into(), source };
    let mut becoming = checkpoint.command(&given).map_err(launch)?;
    becoming.command.env_clear();
    let logs = Logs { serial: &spec.serial_log, engine: &spec.engine_log };
    let origin = Origin::Frozen { state: None, monotonic_ns: None };
    let mut machine = Machine::spawn(&mut becoming.command, &logs, sockets, &[from.memory], origin)?;
    if let Some(frozen) = from.frozen {
        machine.greeted(&frozen.hello, Some(frozen.monotonic_ns))?;
    }
    Ok(machine)
}
