//! One machine from launch to its end.

use super::Parts;
use super::timing::Stopwatch;
use crate::Error;
use crate::attach::Attached;
use crate::error::FailedRun;
use crate::network::{Lines, Outfit, has_network};
use microagent_egress::Summary;
use microagent_gateway::Gateway;
use microagent_machine::engine::{DiskMode, DiskSpec, Machine, MachineSpec};
use microagent_protocol::{Adopt, Boot, Disk, Mount, RefusalCode, Request, Wake};
use microagent_state::{Workspace, WorkspaceRecord};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long flushing and unmounting a workspace's disk may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_mins(2);

/// Bytes of host entropy a guest gets: what the kernel's generator holds, twice over.
const ENTROPY: usize = 64;

/// Most of the console that is searched for the reason of a failure.
const CONSOLE_TAIL: usize = 16 << 10;

const BASE_SERIAL: &str = "base";
const WORKSPACE_SERIAL: &str = "workspace";

/// The disks of a workspace's machine.
pub(crate) fn disks(base: PathBuf, workspace: PathBuf, mode: DiskMode) -> Vec<DiskSpec> {
    vec![
        DiskSpec { path: base, serial: BASE_SERIAL.to_owned(), mode: DiskMode::ReadOnly },
        DiskSpec { path: workspace, serial: WORKSPACE_SERIAL.to_owned(), mode },
    ]
}

/// What makes a machine that is nobody's a workspace's.
pub(crate) fn boot_request(
    hostname: &str,
    base_filesystem: &str,
    mounts: &[Mount],
    epoch_ns: u64,
    outfit: impl FnOnce(&mut Boot),
) -> Result<Request, Error> {
    let entropy = random::<ENTROPY>()?.to_vec();
    let mut boot = Boot {
        base: Disk { serial: BASE_SERIAL.to_owned(), filesystem: base_filesystem.to_owned() },
        workspace: Disk { serial: WORKSPACE_SERIAL.to_owned(), filesystem: "ext4".to_owned() },
        mounts: mounts.to_vec(),
        hostname: hostname.to_owned(),
        machine_id: format!("{:032x}", u128::from_ne_bytes(random()?)),
        epoch_ns,
        entropy,
        network: None,
        trust: Vec::new(),
        roots: String::new(),
        java_home: None,
        secrets: false,
        sockets: Vec::new(),
    };
    outfit(&mut boot);
    Ok(Request::Boot(boot))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::Entropy)?;
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub(crate) struct Session {
    machine: Machine,
    attached: Arc<Attached>,
    outfit: Arc<Outfit>,
    /// What goes on between the machine and the world.
    gateway: Option<Gateway>,
    lines: Lines,
    serial_log: PathBuf,
}

/// The machine of a workspace.
pub(crate) fn spec(parts: &Parts, workspace: &Workspace, record: &WorkspaceRecord, attached: &Attached) -> MachineSpec {
    let mode = if record.disposable { DiskMode::Scratch } else { DiskMode::Durable };
    let own = disks(record.base_path.clone(), workspace.disk(), mode);
    MachineSpec {
        kernel: parts.kernel.image.clone(),
        initramfs: parts.initramfs.path.clone(),
        memory_mib: record.resources.memory_mib,
        cpus: record.resources.cpu_count,
        disks: own.into_iter().chain(attached.specs.iter().cloned()).collect(),
        wipes: !record.secrets.is_empty(),
        network: has_network(record),
        serial_log: workspace.serial_log(),
        engine_log: workspace.engine_log(),
    }
}

impl Session {
    pub(crate) fn new(
        machine: Machine,
        workspace: &Workspace,
        attached: Arc<Attached>,
        outfit: Arc<Outfit>,
    ) -> Session {
        let serial_log = workspace.serial_log();
        Session { machine, attached, outfit, gateway: None, lines: Lines::default(), serial_log }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Waits for the guest and makes it the machine of this workspace.
    pub(crate) fn boot(
        &mut self,
        record: &WorkspaceRecord,
        watch: &mut Stopwatch,
        limit: Instant,
    ) -> Result<(), Error> {
        self.machine.engine_up(limit)?;
        watch.lap(|timing| &mut timing.engine_ms);
        let epoch_ns = self.machine.guest_up(limit)?;
        watch.lap(|timing| &mut timing.guest_ms);
        self.gateway = self.outfit.connect(&mut self.machine)?;
        let outfit = |boot: &mut Boot| self.outfit.enter(boot);
        let mounts = &self.attached.mounts;
        let request = boot_request(&record.hostname, &record.base_filesystem, mounts, epoch_ns, outfit)?;
        self.machine.channel().call(&request)?.wait(Some(limit))?;
        watch.lap(|timing| &mut timing.assemble_ms);
        Ok(())
    }

    /// Waits for a machine that goes on from a snapshot, and has it be this workspace's.
    pub(crate) fn wake(&mut self, record: &WorkspaceRecord, adopt: Vec<Adopt>, limit: Instant) -> Result<(), Error> {
        self.machine.engine_up(limit)?;
        self.machine.guest_up(limit)?;
        self.gateway = self.outfit.connect(&mut self.machine)?;
        let channel = self.machine.channel();
        let wake = Wake {
            epoch_ns: channel.epoch_ns(limit)?,
            entropy: random::<ENTROPY>()?.to_vec(),
            hostname: record.hostname.clone(),
            machine_id: format!("{:032x}", u128::from_ne_bytes(random()?)),
            boot_id: uuid(random()?),
            adopt,
        };
        channel.call(&Request::Wake(wake))?.wait(Some(limit))?;
        Ok(())
    }

    /// Its disks besides the workspace's own.
    pub(crate) fn attached(&self) -> &Attached {
        &self.attached
    }

    /// What the machine is given besides its disks.
    pub(crate) fn outfit(&self) -> &Outfit {
        &self.outfit
    }

    /// Gives the guest its secrets, and opens what leads into it and out of it. Once, when it is up.
    pub(crate) fn equip(&mut self, record: &WorkspaceRecord) -> Result<(), Error> {
        let channel = self.machine.channel();
        // Set-up steps are root's, and may be what makes the user.
        self.outfit.deliver(channel, if record.setup_complete { &record.user } else { "" })?;
        self.lines = self.outfit.open(channel)?;
        Ok(())
    }

    /// Gives its secrets to the user of the workspace, whose set-up is complete now.
    pub(crate) fn entrust(&self, record: &WorkspaceRecord) -> Result<(), Error> {
        self.outfit.deliver(self.machine.channel(), &record.user)
    }

    /// What leads into it, with the ports that are open.
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// What went out of it by now, where it has a network.
    pub(crate) fn egress(&self) -> Option<Summary> {
        self.outfit.summary()
    }

    /// Ends what still runs and unmounts the disks, so that what was written is there at the next start.
    pub(crate) fn shut_down(&self) -> Result<(), Error> {
        let limit = Instant::now() + SHUTDOWN_LIMIT;
        self.machine.channel().call(&Request::Shutdown)?.wait(Some(limit))?;
        Ok(())
    }

    /// Ends the machine. What can go wrong with that leaves nothing to do: dropping it tries again.
    pub(crate) fn kill(&mut self) {
        self.lines = Lines::default();
        let _ = self.machine.kill();
        // What it has to say of connections that ended now is in the record when whoever holds the workspace lets go of it.
        self.gateway = None;
    }

    /// Turns what a caller of the guest saw into what happened to the machine.
    pub(crate) fn explain(
        &mut self,
        error: Error,
        limit: Option<(Instant, Duration)>,
        record: &WorkspaceRecord,
    ) -> Error {
        use microagent_machine::Error as Cause;
        // The caller's limit, that is; when one of our own passes, the machine failed.
        if matches!(error, Error::Machine(Cause::DeadlinePassed))
            && let Some(late) = timed_out(limit, record)
        {
            return late;
        }
        match error {
            Error::Machine(Cause::RequestTooLong { .. }) => error,
            // It is the caller's mistake that the image has no such user, and the machine is well.
            Error::Machine(Cause::Refused(ref refusal)) if refusal.code == RefusalCode::UserUnknown => error,
            Error::Machine(cause) => {
                let source = Box::new(self.machine.explain(cause));
                Error::MachineFailed {
                    run: Box::new(failed_run(record)),
                    source,
                    console: last_words(&self.serial_log),
                }
            }
            other => other,
        }
    }
}

/// That the caller's limit has passed, if it has.
pub(crate) fn timed_out(limit: Option<(Instant, Duration)>, record: &WorkspaceRecord) -> Option<Error> {
    let (deadline, timeout) = limit?;
    (Instant::now() >= deadline).then(|| Error::TimedOut { run: Box::new(failed_run(record)), timeout })
}

fn failed_run(record: &WorkspaceRecord) -> FailedRun {
    FailedRun { workspace: record.name.clone(), backend: record.backend.clone(), engine: record.engine.clone() }
}

/// The line of the guest's console that says why it died, if one does.
fn last_words(serial_log: &Path) -> Option<String> {
    const TELLING: [&str; 4] = ["Kernel panic", "microagent-guest:", "Out of memory", "BUG:"];
    let bytes = std::fs::read(serial_log).ok()?;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(CONSOLE_TAIL)..]).into_owned();
    let line = text.lines().find(|line| TELLING.iter().any(|word| line.contains(word)))?;
    // Without the kernel's time stamp.
    let line = line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or(line, |(_, said)| said);
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
}
