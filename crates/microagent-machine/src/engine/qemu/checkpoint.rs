//! QEMU as it is after a rehearsal, with the guest's code translated.
//!
//! A QEMU that loads a frozen machine has everything but what takes longest in emulation: it translates the guest's code anew. So the
//! process itself is checkpointed, stopped, with nothing open that belongs to a run, and machines go on from copies of it: no start, no
//! loading, and translated code that all copies share until they change it.

use super::filter;
use crate::Error;
use crate::engine::machine::{Logs, Machine, Origin, Sockets};
use crate::engine::{Frozen, MachineSpec};
use microagent_checkpoint::{Capture, Checkpoint, Shared, capture};
use microagent_protocol::Hello;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// What a copy is given: its ends of the sockets, and the RAM.
const CHANNEL: u32 = Checkpoint::FIRST_SLOT;
const CONSOLE: u32 = CHANNEL + 1;
const MONITOR: u32 = CHANNEL + 2;
const RAM: u32 = CHANNEL + 3;
const LINK: u32 = CHANNEL + 4;

/// Stops a machine and writes its QEMU to `checkpoint`. Returns what the guest said when it was up.
pub(super) fn take(
    machine: &mut Machine,
    memory: &File,
    checkpoint: &Checkpoint,
    deadline: Instant,
) -> Result<Hello, Error> {
    let hello = machine.channel().hello(deadline)?;
    machine.monitor.stop(deadline)?;
    let ends = machine.ends;
    let sockets = [(ends.channel, CHANNEL), (ends.console, CONSOLE), (ends.monitor, MONITOR)];
    let given: Vec<_> = sockets.into_iter().chain(ends.link.map(|link| (link, LINK))).collect();
    capture(&Capture {
        pid: machine.pid().cast_signed(),
        plan: &checkpoint.plan,
        memory: &checkpoint.memory,
        shared: Some(Shared { file: memory, slot: RAM }),
        forgotten: &machine.files,
        given: &given,
        filter: &filter::instructions(),
    })?;
    Ok(hello)
}

/// Starts a copy, with the disks of `spec`.
pub(super) fn go_on(
    spec: &MachineSpec,
    checkpoint: &Checkpoint,
    memory: &File,
    frozen: Option<&Frozen>,
) -> Result<Machine, Error> {
    let mut sockets = Sockets::new(spec.network)?;
    let monitor = sockets.monitor();
    monitor.listen();
    for (index, disk) in spec.disks.iter().enumerate() {
        monitor.attach(index, disk.mode, disk.open()?)?;
    }
    monitor.go_on()?;
    let mut given: Vec<(u32, BorrowedFd<'_>)> = vec![
        (CHANNEL, sockets.channel_end()),
        (CONSOLE, sockets.console_end()),
        (MONITOR, sockets.monitor_end()),
        (RAM, memory.as_fd()),
    ];
    given.extend(sockets.link_end().map(|link| (LINK, link)));
    let launch = |source| Error::Launch { program: "a checkpoint of QEMU".into(), source };
    let mut becoming = checkpoint.command(&given).map_err(launch)?;
    becoming.command.env_clear();
    let logs = Logs { serial: &spec.serial_log, engine: &spec.engine_log };
    let origin = Origin::Frozen { state: None, monotonic_ns: None };
    let mut machine = Machine::spawn(&mut becoming.command, &logs, sockets, &[], origin)?;
    if let Some(frozen) = frozen {
        machine.greeted(&frozen.hello, Some(frozen.monotonic_ns))?;
    }
    Ok(machine)
}
