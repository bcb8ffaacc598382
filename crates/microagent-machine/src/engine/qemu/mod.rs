//! QEMU with its `microvm` machine: no firmware to speak of, no PCI, no legacy devices.
//!
//! It needs nothing from the host but the program, so it is the engine of every host without a usable KVM, and the one every test can run.

mod arguments;

use super::machine::{Logs, Sockets};
use super::{Accelerator, Capabilities, Engine, Machine, MachineSpec};
use crate::Error;
use std::path::PathBuf;
use std::process::Command;

/// QEMU on this host.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    accelerator: Accelerator,
    tsc_khz: Option<u32>,
}

impl Qemu {
    /// QEMU at `program`. `tsc_khz` is the rate of the host's time stamp counter, which an emulated guest sees too, where it
    /// has a constant one.
    pub fn new(program: PathBuf, accelerator: Accelerator, tsc_khz: Option<u32>) -> Qemu {
        Qemu { program, accelerator, tsc_khz }
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
        Capabilities { pause: false, snapshot: false, vsock: false, network: false, warm: false }
    }

    fn launch(&self, spec: &MachineSpec) -> Result<Machine, Error> {
        let sockets = Sockets::new()?;
        let mut command = Command::new(&self.program);
        command.args(arguments::build(self, spec, &sockets));
        // QEMU reads its configuration from the command line alone.
        command.env_clear();
        Machine::spawn(command, &Logs { serial: &spec.serial_log, engine: &spec.engine_log }, sockets)
    }
}
