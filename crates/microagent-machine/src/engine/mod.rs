//! Engines: the programs that run a virtual machine.
//!
//! An [`Engine`] turns a [`MachineSpec`] into a running [`Machine`]. Engines differ in what they can do, and say so as data
//! ([`Capabilities`]); what they have in common, a process that dies with its owner and one byte stream to the guest agent, is
//! [`Machine`].

mod console;
mod machine;
pub mod qemu;

pub(crate) use machine::POWER_OFF;
pub use machine::{Frozen, Killer, Machine, leave_behind};
pub use qemu::Qemu;

use crate::Error;
use crate::probe::{Host, KvmVerdict, QemuVerdict};
use crate::template::Hardware;
use microagent_checkpoint::Checkpoint;
use microagent_protocol::{FaultKind, Hello};
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

/// What the virtual processors run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's KVM.
    Kvm,
    /// Translation in software: slower, and needs nothing from the host.
    Tcg,
}

impl Accelerator {
    /// The backend name users see in JSON and pass to `--backend`.
    pub fn backend(self) -> &'static str {
        match self {
            Accelerator::Kvm => "linux-kvm",
            Accelerator::Tcg => "linux-tcg",
        }
    }
}

/// What an engine can do for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Capabilities {
    /// Stop and continue the virtual processors.
    pub pause: bool,
    /// Write a running machine's state to disk and restore it.
    pub snapshot: bool,
    /// Speak `AF_VSOCK` with the guest.
    pub vsock: bool,
    /// Give the guest a network interface.
    pub network: bool,
    /// Restore machines from a template instead of booting them.
    pub warm: bool,
    /// Rehearse a template, so that machines restored from it run code that is translated already.
    pub rehearse: bool,
}

/// A program that runs virtual machines.
pub trait Engine: Send + Sync {
    /// The program's name, as in JSON output.
    fn name(&self) -> &'static str;
    /// What the processors run on.
    fn accelerator(&self) -> Accelerator;
    /// What it can do.
    fn capabilities(&self) -> Capabilities;
    /// What a guest frozen in a machine of `spec` depends on, as far as the engine and the virtual hardware go.
    fn hardware(&self, spec: &MachineSpec) -> Hardware;
    /// Starts a machine. The kernel kills it when the calling thread ends, so that thread must live as long as the machine is wanted.
    /// So it is with the other two.
    fn launch(&self, spec: &MachineSpec) -> Result<Machine, Error>;
    /// Starts a machine to be frozen, with `memory` as its RAM and placeholders for its disks.
    fn launch_template(&self, spec: &MachineSpec, memory: &File) -> Result<Machine, Error>;
    /// Starts a machine that continues a frozen guest, with `memory`, a copy of its RAM, as its RAM and placeholders for its disks. It is
    /// to do what machines do, and then be frozen again.
    fn launch_rehearsal(&self, spec: &MachineSpec, from: &Restore<'_>, memory: &File) -> Result<Machine, Error>;
    /// Stops a machine that has rehearsed, and whose disks are placeholders again, and writes its engine to `checkpoint`. `memory` is its
    /// RAM. Returns what the guest said when it was up.
    fn freeze_rehearsed(
        &self,
        machine: &mut Machine,
        memory: &File,
        checkpoint: &Checkpoint,
        deadline: Instant,
    ) -> Result<Hello, Error>;
    /// Writes a machine that is paused, and can go on afterwards.
    fn capture(&self, machine: &mut Machine, to: &Taking<'_>, deadline: Instant) -> Result<(), Error>;
    /// Writes its engine as well, so that what that has learned is kept. `spec` is what the machine was launched with, `memory` holds its RAM
    /// as [`Engine::capture`] has written it.
    fn capture_engine(
        &self,
        machine: &mut Machine,
        spec: &MachineSpec,
        memory: &File,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error>;
    /// Starts a machine that continues a frozen guest.
    fn restore(&self, spec: &MachineSpec, from: &Restore<'_>) -> Result<Machine, Error>;
}

/// What a machine is restored from.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// RAM of the frozen machine. It is never written to.
    pub memory: &'a File,
    /// The rest of its state, from the file's position on.
    pub state: &'a File,
    /// What is known of the guest. Without it, the engine gets ready and waits for [`Machine::load`].
    pub frozen: Option<&'a Frozen>,
    /// The engine itself, where it was checkpointed when the guest was frozen.
    pub checkpoint: Option<&'a Checkpoint>,
    /// Whether it was frozen with its disks, and goes on with them; else it has placeholders that they take the place of.
    pub with_disks: bool,
}

/// Where a machine is captured.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// A copy of what its RAM was when it began ([`Machine::copy_ram`]); becomes what it is.
    pub memory: &'a File,
    /// Receives everything else.
    pub state: &'a File,
}

/// The engine for `backend` (`linux-kvm` or `linux-tcg`), or the best this host has: KVM where it works, emulation otherwise.
pub fn choose(host: &Host, backend: Option<&str>) -> Result<Box<dyn Engine>, Error> {
    let accelerator = match backend.map(str::parse).transpose()? {
        Some(Accelerator::Tcg) => Accelerator::Tcg,
        asked => match host.kvm() {
            KvmVerdict::Works { .. } => Accelerator::Kvm,
            _ if asked.is_none() => Accelerator::Tcg,
            verdict => {
                return Err(Error::BackendUnusable { backend: Accelerator::Kvm.backend(), why: verdict.to_string() });
            }
        },
    };
    let (program, version) = qemu_program(host)?;
    Ok(Box::new(Qemu::new(program, version, accelerator, host.tsc_khz())))
}

fn qemu_program(host: &Host) -> Result<(PathBuf, String), Error> {
    let verdict = host.qemu();
    let why = verdict.to_string();
    let hint = match verdict {
        QemuVerdict::Found { path, version, microvm: true } => return Ok((path, version)),
        QemuVerdict::Missing { hint } => hint,
        _ => "name another one with MICROAGENT_QEMU".to_owned(),
    };
    Err(Error::EngineUnusable { why, hint })
}

/// The virtual hardware and what is in it.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// ELF or bzImage.
    pub kernel: PathBuf,
    /// Uncompressed cpio with the agent as `/init`.
    pub initramfs: PathBuf,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Number of virtual processors.
    pub cpus: u32,
    /// Block devices.
    pub disks: Vec<DiskSpec>,
    /// Whether its kernel wipes memory when it is freed, so that what has been removed is gone.
    pub wipes: bool,
    /// Whether it has a network interface, whose frames come out of [`Machine::take_link`].
    pub network: bool,
    /// File that keeps the end of the guest kernel's console, within bounds; truncated.
    pub serial_log: PathBuf,
    /// File that receives what the engine itself prints; truncated.
    pub engine_log: PathBuf,
}

/// A raw disk image attached as a virtio block device.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// The image.
    pub path: PathBuf,
    /// Serial number by which the guest finds the device; at most [`DiskSpec::MAX_SERIAL`] bytes.
    pub serial: String,
    /// How the image is used.
    pub mode: DiskMode,
}

impl DiskSpec {
    /// Longest serial number a virtio block device can have (virtio specification, 5.2.6).
    pub const MAX_SERIAL: usize = 20;

    fn open(&self) -> Result<File, Error> {
        let opened = File::options().read(true).write(self.mode.is_writable()).open(&self.path);
        opened.map_err(|source| Error::OpenDisk { path: self.path.clone(), source })
    }
}

/// How a disk image is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskMode {
    /// Never written; may be shared by many machines.
    ReadOnly,
    /// What the guest flushes survives a crash of the host.
    Durable,
    /// Thrown away with the machine: flushes cost nothing.
    Scratch,
}

impl DiskMode {
    /// Whether the guest may write to the disk.
    pub fn is_writable(self) -> bool {
        self != DiskMode::ReadOnly
    }
}

impl std::str::FromStr for Accelerator {
    type Err = Error;

    fn from_str(name: &str) -> Result<Accelerator, Error> {
        match name {
            "linux-kvm" => Ok(Accelerator::Kvm),
            "linux-tcg" => Ok(Accelerator::Tcg),
            _ => Err(Error::UnknownBackend { name: name.to_owned() }),
        }
    }
}

/// Kind of fault an engine failure is, by what the kernel said.
pub(crate) fn kind_of(source: &std::io::Error) -> FaultKind {
    use std::io::ErrorKind as Io;
    match source.kind() {
        Io::NotFound => FaultKind::NotFound,
        Io::PermissionDenied => FaultKind::Denied,
        Io::OutOfMemory | Io::StorageFull | Io::QuotaExceeded => FaultKind::ResourceExhausted,
        _ => FaultKind::Permanent,
    }
}
