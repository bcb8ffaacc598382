//! Writing down a machine that stands still.
//!
//! Everything that takes long is done before that or after it: [`Taking::prepare`] while the machine still runs, [`Captured::publish`] when it
//! runs again. In between, [`Taking::capture`] copies what would change.

use super::{AUTHORITY, STATE, own_disks};
use crate::boot::Parts;
use crate::boot::session::{self, Session};
use crate::disk_copy::copy_contents;
use crate::{Client, Error};
use microagent_intercept::KeptAuthority;
use microagent_machine::engine;
use microagent_machine::template::{Claim, Making, Shape};
use microagent_protocol::Hello;
use microagent_state::snapshot::{
    Base, DiskPart, LayerId, Machine, Manifest, ProcessPart, Snapshot, SnapshotKind, SnapshotStore, Staged, Tag,
};
use microagent_state::{DiskSource, MountMode, Workspace, WorkspaceRecord};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a snapshot is to be.
pub(crate) struct Wanted {
    pub(crate) tag: Option<Tag>,
    pub(crate) comment: Option<String>,
    pub(crate) kind: SnapshotKind,
}

/// A snapshot for which everything is ready that can be while the machine runs.
pub(crate) struct Taking {
    store: SnapshotStore,
    staged: Staged,
    making: Making,
    shape: Shape,
    spec: engine::MachineSpec,
    record: WorkspaceRecord,
    base: Base,
    hello: Hello,
    authority: Option<KeptAuthority>,
    wanted: Wanted,
    /// What the memory began as.
    ram: File,
    disk: PathBuf,
    note: Option<String>,
}

/// A machine that was written down. It is not needed for what is left to do.
pub(crate) struct Captured {
    taking: Taking,
    /// Disks as they were; those that nobody writes to are read where they are.
    disks: Vec<(String, File)>,
    processes: Vec<ProcessPart>,
    secrets_purged: bool,
}

impl Taking {
    /// Makes sure that it can be done, and gets ready for it.
    pub(crate) fn prepare(
        client: &Client,
        parts: &Parts,
        workspace: &Workspace,
        record: &WorkspaceRecord,
        session: &Session,
        wanted: Wanted,
    ) -> Result<Taking, Error> {
        // Nothing goes on from evidence.
        if wanted.kind != SnapshotKind::Forensic {
            check_disks(record)?;
        }
        let store = client.state().snapshots(workspace.name());
        let staged = match &wanted.tag {
            Some(tag) => store.stage(tag)?,
            None => store.stage_at(jiff::Timestamp::now())?,
        };
        let spec = session::spec(parts, workspace, record, session.attached());
        let shape = Shape::new(&parts.kernel, &parts.initramfs, parts.engine.hardware(&spec));
        let (shape, mut making) = loop {
            let shape = shape.of_capture(&format!("{:032x}", u128::from_ne_bytes(session::random()?)));
            // A name that is new is nobody else's to make.
            if let Claim::Making(making) =
                client.capture_store().claim(&shape).map_err(microagent_machine::Error::from)?
            {
                break (shape, *making);
            }
        };
        let machine = session.machine();
        machine.copy_ram(making.memory())?;
        let mut note = making.note().map(str::to_owned);
        if wanted.kind == SnapshotKind::Full
            && parts.engine.capabilities().rehearse
            && let Err(error) = making.keep_engine()
        {
            note = Some(format!("its engine was not kept: {error}"));
        }
        let base = base(record)?;
        let hello = machine.channel().hello(Instant::now())?;
        let ram = machine.ram().try_clone().map_err(|source| microagent_machine::Error::Memory { source })?;
        let authority = session.outfit().authority();
        let (record, disk) = (record.clone(), workspace.disk());
        Ok(Taking { store, staged, making, shape, spec, record, base, hello, authority, wanted, ram, disk, note })
    }

    /// Writes down the machine, which stands still, with everything in it that could change.
    pub(crate) fn capture(
        mut self,
        parts: &Parts,
        session: &mut Session,
        processes: Vec<ProcessPart>,
        secrets_purged: bool,
        deadline: Instant,
    ) -> Result<Captured, Error> {
        let machine = session.machine_mut();
        let to = engine::Taking { memory: self.making.memory(), state: self.making.state() };
        parts.engine.capture(machine, &to, deadline)?;
        if let Some(checkpoint) = self.making.checkpoint()
            && let Err(error) = parts.engine.capture_engine(machine, &self.spec, self.making.memory(), checkpoint)
        {
            self.note = Some(format!("its engine was not kept: {error}"));
            self.making.forget_engine();
        }
        let copy = |(name, path, changes): (String, PathBuf, bool)| {
            let copied = if changes { copy_out(&path, self.staged.path()) } else { File::open(&path) };
            Ok((name, copied.map_err(microagent_state::Error::io("copy the disk", &path))?))
        };
        let disks = own_disks(self.disk.clone(), &self.record).into_iter().map(copy);
        let disks = disks.collect::<Result<_, Error>>()?;
        Ok(Captured { taking: self, disks, processes, secrets_purged })
    }
}

impl Captured {
    /// Whether nothing is to go on from it.
    pub(crate) fn is_evidence(&self) -> bool {
        self.taking.wanted.kind == SnapshotKind::Forensic
    }

    /// Makes it a snapshot, of a machine that stood still for `pause`.
    pub(crate) fn publish(self, pause: Duration) -> Result<(Snapshot, Option<String>), Error> {
        let Captured { taking, disks, processes, secrets_purged } = self;
        let Taking { store, staged, making, shape, record, base, hello, authority, wanted, ram, mut note, .. } = taking;
        let below = Below::find(&store, &record);
        let writing = staged.layers();
        // Where there was none before, what it began with, which is what every other machine of the kind does.
        let began = if below.memory.is_empty() { writing.write(&ram, None, &[])? } else { Vec::new() };
        let parents = if below.memory.is_empty() { &began } else { &below.memory };
        let memory = writing.write(making.memory(), None, parents)?;
        let part = |(name, file): (String, File)| {
            let bytes = file.metadata().map_err(microagent_state::Error::io("read the disk", Path::new(&name)))?.len();
            let layers = writing.write(&file, None, below.disk(&name))?;
            Ok(DiskPart { name, bytes, layers })
        };
        let disks = disks.into_iter().map(part).collect::<Result<_, Error>>()?;
        making.copy_state(&staged.path().join(STATE)).map_err(microagent_machine::Error::from)?;
        if let Some(authority) = authority {
            write_private(&staged.path().join(AUTHORITY), &authority)?;
        }
        let memory_bytes = u64::from(record.resources.memory_mib) << 20;
        let machine = Machine {
            shape: serde_json::to_value(&shape).expect("a shape has only string keys"),
            memory,
            memory_bytes,
            hello: serde_json::to_value(&hello).expect("a hello has only string keys"),
            processes,
        };
        let manifest = Manifest {
            tag: staged.tag().clone(),
            workspace: store.workspace().clone(),
            created_at: jiff::Timestamp::now(),
            kind: wanted.kind,
            comment: wanted.comment,
            pause_ms: Some(pause.as_secs_f64() * 1000.0),
            ancestry: record.origin.clone(),
            record,
            base,
            secrets_purged,
            machine: Some(machine),
            disks,
            files: std::collections::BTreeMap::new(),
        };
        let snapshot = staged.publish(manifest)?;
        // A guest that wakes is asked for its clock.
        if wanted.kind == SnapshotKind::Full
            && let Err(error) = making.publish(engine::Frozen { hello, monotonic_ns: 0 })
        {
            // It is made again when it is wanted.
            note = Some(format!("nothing is ready to be restored: {error}"));
        }
        Ok((snapshot, note))
    }
}

/// What the layers of a snapshot are laid upon: those of the last one before it. Any would do; the more alike, the less is written.
pub(super) struct Below {
    pub(super) memory: Vec<LayerId>,
    disks: Vec<DiskPart>,
}

impl Below {
    /// Those of the last snapshot of the workspace, or of the one it went on from.
    pub(super) fn find(store: &SnapshotStore, record: &WorkspaceRecord) -> Below {
        let own = store.list().unwrap_or_default().into_iter().filter_map(|(_, snapshot)| snapshot.ok());
        let origin = || {
            let origin = record.origin.as_ref()?;
            store.of(&origin.workspace).open(&origin.tag).ok()
        };
        // What evidence holds is not to be in anything else, in which it would stay when the evidence is removed.
        let newest_last: Vec<Snapshot> = origin().into_iter().chain(own).collect();
        let good = || newest_last.iter().rev().map(Snapshot::manifest).filter(|one| one.kind != SnapshotKind::Forensic);
        let memory = good().find_map(|manifest| Some(manifest.machine.as_ref()?.memory.clone())).unwrap_or_default();
        Below { memory, disks: good().next().map(|manifest| manifest.disks.clone()).unwrap_or_default() }
    }

    pub(super) fn disk(&self, name: &str) -> &[LayerId] {
        self.disks.iter().find(|disk| disk.name == name).map_or(&[], |disk| &disk.layers)
    }
}

/// Fails where the guest writes to something that a snapshot does not have: memory would know of a file system that has gone on without it.
fn check_disks(record: &WorkspaceRecord) -> Result<(), Error> {
    let outside = |source: &DiskSource| !matches!(source, DiskSource::Bundle { .. });
    match record.disks.iter().find(|disk| disk.mode == MountMode::ReadWrite && outside(&disk.source)) {
        None => Ok(()),
        Some(disk) => Err(Error::SnapshotDisk { name: record.name.to_string(), disk: disk.name.clone() }),
    }
}

/// What the base is now.
pub(super) fn base(record: &WorkspaceRecord) -> Result<Base, Error> {
    let file = std::fs::metadata(&record.base_path).map_err(microagent_state::Error::io("read", &record.base_path))?;
    Ok(Base { path: record.base_path.clone(), bytes: file.len(), verification: record.verification.clone() })
}

/// A copy of a disk, in `directory`, that has no name.
fn copy_out(disk: &Path, directory: &Path) -> std::io::Result<File> {
    let source = File::open(disk)?;
    let copy = tempfile::tempfile_in(directory)?;
    copy_contents(&source, &copy)?;
    Ok(copy)
}

fn write_private(path: &Path, what: &impl serde::Serialize) -> Result<(), Error> {
    let bytes = serde_json::to_vec(what).expect("it has only string keys");
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(&bytes));
    Ok(written.map_err(microagent_state::Error::io("write", path))?)
}
