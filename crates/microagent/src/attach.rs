//! The disks a workspace declares: made ready when it is made, attached for as long as its machine runs.

use crate::{Client, Error};
use microagent_image::{rootfs, rootfs::Limits};
use microagent_machine::engine::{DiskMode, DiskSpec};
use microagent_protocol::{Disk, Mount};
use microagent_state::{Attachment, DiskLock, DiskRecord, DiskSource, MountMode, Workspace, WorkspaceRecord};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// Room on a disk that is built from an archive and may be written to.
const BUNDLE_HEADROOM: u64 = 64 << 20;

/// File system of every declared disk.
const EXT4: &str = "ext4";

/// Disks that are this workspace's until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    /// What the machine is given.
    pub(crate) specs: Vec<DiskSpec>,
    /// Where the guest mounts them.
    pub(crate) mounts: Vec<Mount>,
    held: Vec<Held>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "they are held, and let go of by being dropped")]
enum Held {
    Volume(Attachment),
    Disk(DiskLock),
}

/// Checks the disks of a workspace that is being made, and builds those that come from archives.
pub(crate) fn prepare(client: &Client, workspace: &Workspace, disks: &mut [DiskRecord]) -> Result<(), Error> {
    for disk in disks {
        match &mut disk.source {
            DiskSource::Disk { path } => {
                rootfs::probe_ext4(path).map_err(microagent_image::Error::from)?;
                *path = path.canonicalize().map_err(microagent_state::Error::io("find", &*path))?;
            }
            DiskSource::Bundle { source, path } => {
                let directory = workspace.path().join("disks");
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&directory)
                    .map_err(microagent_state::Error::io("make the directory", &directory))?;
                let built = directory.join(format!("{}.ext4", disk.name));
                let headroom = if disk.mode == MountMode::ReadWrite { BUNDLE_HEADROOM } else { 0 };
                rootfs::write_bundle(source, &built, headroom, &Limits::default(), &mut |_| ControlFlow::Continue(()))
                    .map_err(microagent_image::Error::from)?;
                *path = Some(built);
            }
            DiskSource::Volume { name } => drop(client.state().find_volume(name)?),
        }
    }
    Ok(())
}

/// Takes the disks of a workspace, each for itself where it is written to.
pub(crate) fn attach(client: &Client, record: &WorkspaceRecord) -> Result<Attached, Error> {
    let mut attached = Attached::default();
    for (index, disk) in record.disks.iter().enumerate() {
        let path = attached.hold(client, record, disk)?;
        let (mode, read_only) = match disk.mode {
            MountMode::ReadOnly => (DiskMode::ReadOnly, true),
            MountMode::ReadWrite => (DiskMode::Durable, false),
        };
        let serial = DiskRecord::serial(index);
        attached.specs.push(DiskSpec { path, serial: serial.clone(), mode });
        let found = Disk { serial, filesystem: EXT4.to_owned() };
        attached.mounts.push(Mount { disk: found, target: disk.mountpoint.clone(), read_only });
    }
    Ok(attached)
}

impl Attached {
    /// Takes one disk, and says where it is.
    fn hold(&mut self, client: &Client, record: &WorkspaceRecord, disk: &DiskRecord) -> Result<PathBuf, Error> {
        let (held, path) = match &disk.source {
            DiskSource::Volume { name } => {
                let volume = client.state().find_volume(name)?;
                (Held::Volume(volume.attach(disk.mode, &record.name)?), volume.disk())
            }
            DiskSource::Disk { path } => (Held::Disk(DiskLock::acquire(path, disk.mode)?), path.clone()),
            DiskSource::Bundle { path, source } => {
                let path = path.clone().unwrap_or_else(|| source.clone());
                (Held::Disk(DiskLock::acquire(&path, disk.mode)?), path)
            }
        };
        self.held.push(held);
        Ok(path)
    }
}
