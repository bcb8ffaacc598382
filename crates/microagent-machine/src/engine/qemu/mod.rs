//! QEMU with its `microvm` machine: no firmware to speak of, no PCI, no legacy devices.
//!
//! It needs nothing from the host but the program, so it is the engine of every host without a usable KVM, and the one every test can run.
//!
//! A guest is frozen by QEMU's migration to a file. Its RAM is left out of that (`x-ignore-shared`): it lies in a file that the frozen
//! machine has mapped shared and every restored one maps privately, so restoring reads some 70 KB and copies nothing.

mod arguments;
mod capture;
mod checkpoint;
mod filter;
pub(super) mod qmp;
mod stream;

use super::machine::{Ends, Logs, Origin, Sockets};
use super::{Accelerator, Capabilities, DiskSpec, Engine, Machine, MachineSpec, Restore, Taking};
use crate::Error;
use crate::kernel::hexadecimal;
use crate::probe::FileIdentity;
use crate::template::{Disk, Hardware};
use arguments::Ram;
use microagent_checkpoint::Checkpoint;
use microagent_protocol::Hello;
use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// QEMU on this host.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    version: String,
    accelerator: Accelerator,
    tsc_khz: Option<u32>,
}

impl Qemu {
    /// QEMU at `program`, which says it has `version`. `tsc_khz` is the rate of the host's time stamp counter, which an emulated guest
    /// sees too, where it has a constant one.
    pub fn new(program: PathBuf, version: String, accelerator: Accelerator, tsc_khz: Option<u32>) -> Qemu {
        Qemu { program, version, accelerator, tsc_khz }
    }

    fn spawn(
        &self,
        spec: &MachineSpec,
        sockets: Sockets,
        ram: Ram,
        files: &[&File],
        origin: Origin,
    ) -> Result<Machine, Error> {
        let mut command = Command::new(&self.program);
        command.args(arguments::build(self, spec, sockets.ends(), ram));
        // QEMU reads its configuration from the command line alone.
        command.env_clear();
        Machine::spawn(
            &mut command,
            &Logs { serial: &spec.serial_log, engine: &spec.engine_log },
            sockets,
            files,
            origin,
        )
    }

    /// Everything else that a QEMU is given of ours, digested: the arguments of a machine that is to be frozen, and what its copies live
    /// under.
    fn fingerprint(&self, spec: &MachineSpec) -> String {
        let mut digest = Sha256::new();
        let nothing = Ends { channel: 0, console: 0, monitor: 0, link: spec.network.then_some(0) };
        for argument in arguments::build(self, spec, nothing, Ram::Template(0)) {
            digest.update(argument.as_encoded_bytes());
            digest.update([0]);
        }
        for instruction in filter::instructions() {
            digest.update(format!("{instruction:?}"));
        }
        digest.update(Checkpoint::FORMAT);
        hexadecimal(&digest.finalize())
    }

    /// Whether it can map a file privately that it may only read (8.2 and later).
    fn maps_read_only(&self) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (8, 2)
    }
}

impl Engine for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: true,
            snapshot: true,
            vsock: false,
            network: true,
            warm: true,
            rehearse: self.accelerator == Accelerator::Tcg,
        }
    }

    fn hardware(&self, spec: &MachineSpec) -> Hardware {
        Hardware {
            engine: self.name().to_owned(),
            engine_version: self.version.clone(),
            program: FileIdentity::of(&self.program),
            backend: self.accelerator.backend().to_owned(),
            arguments: self.fingerprint(spec),
            memory_mib: spec.memory_mib,
            cpus: spec.cpus,
            disks: spec.disks.iter().map(disk_shape).collect(),
        }
    }

    fn launch(&self, spec: &MachineSpec) -> Result<Machine, Error> {
        let memory = memfd_create("microagent-ram", MemfdFlags::CLOEXEC).map(File::from).map_err(io::Error::from);
        let memory = memory.and_then(|memory| memory.set_len(u64::from(spec.memory_mib) << 20).map(|()| memory));
        let memory = memory.map_err(|source| Error::Memory { source })?;
        let mut sockets = Sockets::new(spec.network)?;
        sockets.monitor().negotiate()?;
        self.spawn(spec, sockets, Ram::Private(memory.as_raw_fd()), &[&memory], Origin::Boot)
    }

    fn launch_template(&self, spec: &MachineSpec, memory: &File) -> Result<Machine, Error> {
        let ram = Ram::Template(memory.as_raw_fd());
        self.spawn(spec, Sockets::new(spec.network)?, ram, &[memory], Origin::Boot)
    }

    fn launch_rehearsal(&self, spec: &MachineSpec, from: &Restore<'_>, memory: &File) -> Result<Machine, Error> {
        self.load(spec, from, memory, Ram::Rehearsal(memory.as_raw_fd()))
    }

    fn freeze_rehearsed(
        &self,
        machine: &mut Machine,
        memory: &File,
        checkpoint: &Checkpoint,
        deadline: Instant,
    ) -> Result<Hello, Error> {
        checkpoint::take(machine, memory, checkpoint, deadline)
    }

    fn capture(&self, machine: &mut Machine, to: &Taking<'_>, deadline: Instant) -> Result<(), Error> {
        capture::capture(machine, to, deadline)
    }

    fn capture_engine(
        &self,
        machine: &mut Machine,
        spec: &MachineSpec,
        memory: &File,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        checkpoint::take_alive(machine, spec, memory, checkpoint)
    }

    fn restore(&self, spec: &MachineSpec, from: &Restore<'_>) -> Result<Machine, Error> {
        if let Some(engine) = from.checkpoint {
            return checkpoint::go_on(spec, engine, from);
        }
        let ram = Ram::Restored { file: from.memory.as_raw_fd(), read_only: self.maps_read_only() };
        self.load(spec, from, from.memory, ram)
    }
}

impl Qemu {
    /// Starts a QEMU that loads a frozen machine, with its RAM in `memory`.
    fn load(&self, spec: &MachineSpec, from: &Restore<'_>, memory: &File, ram: Ram) -> Result<Machine, Error> {
        let mut sockets = Sockets::new(spec.network)?;
        let state = from.state.as_raw_fd();
        sockets.monitor().prepare()?;
        if from.frozen.is_some() {
            sockets.monitor().load(state)?;
        }
        let files = [memory, from.state];
        let origin = Origin::Frozen { state: Some(state), monotonic_ns: None };
        let mut machine = self.spawn(spec, sockets, ram, &files, origin)?;
        if let Some(frozen) = from.frozen {
            machine.greeted(&frozen.hello, Some(frozen.monotonic_ns))?;
        }
        Ok(machine)
    }
}

fn disk_shape(disk: &DiskSpec) -> Disk {
    Disk { serial: disk.serial.clone(), writable: disk.mode.is_writable() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_qemu_that_knows_how_maps_memory_it_may_only_read() {
        for (version, knows) in [("7.2.22", false), ("8.1.5", false), ("8.2.0", true), ("10.0.2", true), ("odd", false)]
        {
            let qemu = Qemu::new("/qemu".into(), version.to_owned(), Accelerator::Tcg, None);
            assert_eq!(qemu.maps_read_only(), knows, "{version}");
        }
    }
}
