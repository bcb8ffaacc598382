//! Going on from a snapshot.

use super::{AUTHORITY, STATE, own_disks};
use crate::boot::Parts;
use crate::clone::make_parent;
use crate::network::Before;
use crate::{Client, Error};
use microagent_machine::engine::{Frozen, MachineSpec};
use microagent_machine::template::{Claim, Found, Making, Shape, Template};
use microagent_protocol::Hello;
use microagent_state::snapshot::{Machine, Manifest, ProcessPart, Snapshot, SnapshotKind, SnapshotRef, Writing};
use microagent_state::{DiskSource, Workspace, WorkspaceRecord};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Directory of disks that are about to take the place of a workspace's own.
const RESTORING: &str = Workspace::RESTORING;

/// How long to wait until another process has made the capture that this one needs, and how often to look.
const CAPTURE_LIMIT: Duration = Duration::from_mins(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A snapshot that is to be gone on from.
pub(crate) struct Restoring {
    client: Client,
    snapshot: Snapshot,
    shape: Option<Shape>,
    /// The layers of a snapshot that is deleted meanwhile stay until this is dropped.
    _kept: Writing,
}

/// Disks that are there, beside those they are to take the place of. Dropping it removes them.
pub(crate) struct RestoredDisks {
    directory: PathBuf,
    /// Where each is, and where it belongs.
    moves: Vec<(PathBuf, PathBuf)>,
}

impl Restoring {
    /// Opens a snapshot that can be gone on from.
    pub(crate) fn open(client: &Client, reference: &SnapshotRef) -> Result<Restoring, Error> {
        Restoring::of(client, reference, false)
    }

    /// Opens one whose disks are wanted, and nothing else.
    pub(crate) fn open_disks(client: &Client, reference: &SnapshotRef) -> Result<Restoring, Error> {
        Restoring::of(client, reference, true)
    }

    fn of(client: &Client, reference: &SnapshotRef, disks_only: bool) -> Result<Restoring, Error> {
        let kept = client.state().layers().writing()?;
        let store = client.state().snapshots(&reference.workspace);
        let snapshot = if disks_only { store.open_disks(&reference.tag) } else { store.open(&reference.tag) }?;
        let manifest = snapshot.manifest();
        if manifest.kind == SnapshotKind::Forensic {
            return Err(Error::SnapshotForensic { snapshot: reference.to_string() });
        }
        if manifest.machine.is_some() && !manifest.secrets_purged {
            return Err(Error::SnapshotForensic { snapshot: reference.to_string() });
        }
        let shape = |machine: &Machine| {
            serde_json::from_value(machine.shape.clone()).map_err(|error| Error::SnapshotIncompatible {
                snapshot: reference.to_string(),
                why: format!("what its machine was cannot be read: {error}"),
            })
        };
        let shape = manifest.machine.as_ref().filter(|_| !disks_only).map(shape).transpose()?;
        let base = std::fs::metadata(&manifest.base.path).ok().filter(|file| file.len() == manifest.base.bytes);
        if base.is_none() {
            let (name, image) = (reference.workspace.to_string(), manifest.record.image.clone());
            return Err(Error::BaseMissing { name, image });
        }
        if shape.is_some() {
            check_outside_disks(client, manifest)?;
        }
        Ok(Restoring { client: client.clone(), snapshot, shape, _kept: kept })
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.snapshot.manifest()
    }

    pub(crate) fn reference(&self) -> SnapshotRef {
        self.snapshot.reference()
    }

    /// Whether a machine goes on from it, rather than start anew.
    pub(crate) fn has_machine(&self) -> bool {
        self.shape.is_some()
    }

    /// The processes that go on.
    pub(crate) fn processes(&self) -> &[ProcessPart] {
        self.manifest().machine.as_ref().map_or(&[], |machine| &machine.processes)
    }

    /// What programs in the machine know of the world.
    pub(crate) fn before(&self) -> Before {
        let authority = || serde_json::from_slice(&std::fs::read(self.snapshot.file(AUTHORITY)?).ok()?).ok();
        Before { authority: authority(), on_demand: !self.manifest().record.secrets.on_demand.is_empty() }
    }

    /// What a workspace becomes that goes on from it.
    pub(crate) fn record(&self, own: &WorkspaceRecord) -> WorkspaceRecord {
        let then = &self.manifest().record;
        WorkspaceRecord {
            name: own.name.clone(),
            created_at: own.created_at,
            phase: own.phase,
            disposable: own.disposable,
            session: own.session.clone(),
            restart: own.restart.clone(),
            origin: Some(self.reference()),
            error: None,
            ..then.clone()
        }
    }

    /// Gives back the disks, beside those of `workspace`.
    pub(crate) fn disks(&self, workspace: &Workspace, record: &WorkspaceRecord) -> Result<RestoredDisks, Error> {
        workspace.settle_disks()?;
        let directory = workspace.path().join(RESTORING);
        let mut disks = RestoredDisks { directory, moves: Vec::new() };
        make_parent(&disks.directory.join(RESTORING))?;
        for (name, path, _) in own_disks(workspace.disk(), record) {
            let new = disks.directory.join(&name);
            // Before it is there: what a full disk leaves of it goes, too.
            disks.moves.push((new.clone(), path));
            self.write_disk(&name, &new)?;
        }
        Ok(disks)
    }

    /// Writes a disk to a new file.
    pub(super) fn write_disk(&self, name: &str, path: &Path) -> Result<(), Error> {
        let Some(part) = self.manifest().disks.iter().find(|disk| disk.name == name) else {
            let (snapshot, reason) = (self.reference(), format!("it has no disk `{name}`"));
            return Err(microagent_state::Error::SnapshotDamaged { snapshot, reason }.into());
        };
        let file = File::options().write(true).read(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(microagent_state::Error::io("make the disk", path))?;
        let layers = self.snapshot.layers();
        layers.materialize(&part.layers, &file, part.bytes)?;
        // It takes the place of what is there.
        Ok(file.sync_all().map_err(microagent_state::Error::io("write the disk", path))?)
    }

    /// What the machine is restored from, if a machine of `spec` can be.
    pub(crate) fn template(&self, parts: &Parts, spec: &MachineSpec) -> Result<Template, Error> {
        let incompatible =
            |why: &str| Error::SnapshotIncompatible { snapshot: self.reference().to_string(), why: why.to_owned() };
        let Some((then, machine)) = self.shape.as_ref().zip(self.manifest().machine.as_ref()) else {
            return Err(incompatible("it has no machine"));
        };
        let now = Shape::new(&parts.kernel, &parts.initramfs, parts.engine.hardware(spec));
        if let Some(why) = now.difference(then) {
            return Err(incompatible(why));
        }
        let store = self.client.capture_store();
        let limit = Instant::now() + CAPTURE_LIMIT;
        loop {
            if let Found::Template(template) = store.find(then) {
                return Ok(template);
            }
            match store.claim(then).map_err(microagent_machine::Error::from)? {
                Claim::Made(template) => return Ok(template),
                Claim::Making(making) => self.make(*making, machine)?,
                Claim::Busy if Instant::now() > limit => return Err(microagent_machine::Error::DeadlinePassed.into()),
                Claim::Busy => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Makes the capture of what is kept.
    fn make(&self, making: Making, machine: &Machine) -> Result<(), Error> {
        let layers = self.snapshot.layers();
        layers.materialize(&machine.memory, making.memory(), machine.memory_bytes)?;
        let damaged = |reason: String| microagent_state::Error::SnapshotDamaged { snapshot: self.reference(), reason };
        let path = self.snapshot.file(STATE).ok_or_else(|| damaged(format!("it has no `{STATE}`")))?;
        let copied = File::open(&path).and_then(|mut state| std::io::copy(&mut state, &mut making.state()));
        copied.map_err(microagent_state::Error::io("read", &path))?;
        let hello: Hello = serde_json::from_value(machine.hello.clone()).map_err(|error| damaged(error.to_string()))?;
        making.publish(Frozen { hello, monotonic_ns: 0 }).map_err(microagent_machine::Error::from)?;
        Ok(())
    }

    /// Does away with a template that did not lead to a machine.
    pub(crate) fn discard(&self, template: &Template) {
        // One that cannot be removed now fails again.
        let _ = self.client.capture_store().discard(template);
    }
}

/// Fails where a disk that the guest only reads has been written to since: the guest remembers what was on it.
fn check_outside_disks(client: &Client, manifest: &Manifest) -> Result<(), Error> {
    for disk in &manifest.record.disks {
        let path = match &disk.source {
            DiskSource::Bundle { .. } => continue,
            DiskSource::Disk { path } => path.clone(),
            DiskSource::Volume { name } => client.state().find_volume(name)?.disk(),
        };
        let changed = std::fs::metadata(&path).and_then(|file| file.modified());
        let changed = changed.map_err(microagent_state::Error::io("read the disk", &path))?;
        if changed > std::time::SystemTime::from(manifest.created_at) {
            let snapshot = format!("{}:{}", manifest.workspace, manifest.tag);
            let why = format!("disk `{}`, which it had mounted, has been written to since", disk.name);
            return Err(Error::SnapshotIncompatible { snapshot, why });
        }
    }
    Ok(())
}

impl RestoredDisks {
    /// Has a machine use them where they are.
    pub(crate) fn redirect(&self, spec: &mut MachineSpec) {
        for disk in &mut spec.disks {
            if let Some((new, _)) = self.moves.iter().find(|(_, path)| *path == disk.path) {
                disk.path.clone_from(new);
            }
        }
    }

    /// Has them take the place of those they were made for: all of them, or none.
    pub(crate) fn commit(self, workspace: &Workspace) -> Result<(), Error> {
        let moved = workspace.swap_disks(&self.moves);
        if moved.is_err() {
            // What was moved is moved back, now or by whoever takes the workspace next.
            let _ = workspace.settle_disks();
        }
        Ok(moved?)
    }
}

impl Drop for RestoredDisks {
    fn drop(&mut self) {
        // One that was to be moved and was not has been dealt with.
        for (new, _) in &self.moves {
            let _ = std::fs::remove_file(new);
        }
        let _ = std::fs::remove_dir(&self.directory);
    }
}
