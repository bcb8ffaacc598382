//! Volumes: disks that outlive the workspaces that use them.

use crate::{Client, Error};
use microagent_image::rootfs;
use microagent_state::{Name, Volume, VolumeName};
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Size of a volume when nobody says otherwise, in MiB.
pub const DEFAULT_VOLUME_MIB: u64 = 1024;
/// Sizes a volume can have, in MiB: the least that is worth a file system, and the most that can be a slip of the keyboard only.
const SIZES_MIB: std::ops::RangeInclusive<u64> = 16..=1 << 20;

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: VolumeName,
    /// Size of its disk in MiB.
    pub size_mib: u64,
    /// Bytes it takes on this host.
    pub used_bytes: u64,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// The workspaces that have it now.
    pub attached_to: Vec<Name>,
    /// The workspaces that declare it, whether they run or not.
    pub declared_by: Vec<Name>,
    /// Its disk.
    pub path: PathBuf,
}

/// What [`Client::prune_volumes`] removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VolumesPruned {
    /// The volumes.
    pub removed: Vec<VolumeName>,
    /// Bytes they took.
    pub bytes: u64,
}

impl Client {
    /// Makes an empty volume.
    pub fn create_volume(&self, name: &VolumeName, size_mib: u64) -> Result<VolumeStatus, Error> {
        check_size(size_mib)?;
        let volume = self.state().create_volume(name, size_mib, |disk| {
            rootfs::format_empty_ext4(disk, size_mib << 20)
                .map_err(|error| Error::from(microagent_image::Error::from(error)))
        })?;
        status(&volume, Vec::new())
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<VolumeStatus>, Error> {
        let mut users = self.state().volume_users()?;
        let mut all = Vec::new();
        for volume in self.state().volumes()? {
            match status(&volume, users.remove(volume.name()).unwrap_or_default()) {
                Ok(status) => all.push(status),
                // It went while the list was made.
                Err(Error::State(microagent_state::Error::VolumeNotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// One volume.
    pub fn volume(&self, name: &VolumeName) -> Result<VolumeStatus, Error> {
        let volume = self.state().find_volume(name)?;
        let users = self.state().volume_users()?.remove(name);
        status(&volume, users.unwrap_or_default())
    }

    /// Removes a volume and what is on it. One that is attached stays; one that a workspace declares stays unless `force` is given.
    pub fn remove_volume(&self, name: &VolumeName, force: bool) -> Result<(), Error> {
        let volume = self.state().find_volume(name)?;
        if !force && let Some(users) = self.state().volume_users()?.remove(name) {
            // Who has it now is the better answer, where somebody has.
            if volume.attached_to()?.is_empty() {
                let by = users.iter().map(Name::to_string).collect();
                return Err(microagent_state::Error::VolumeDeclared { name: name.to_string(), by }.into());
            }
        }
        Ok(volume.remove()?)
    }

    /// Removes the volumes that no workspace has or declares. With `dry_run`, only tells.
    pub fn prune_volumes(&self, dry_run: bool) -> Result<VolumesPruned, Error> {
        let mut pruned = VolumesPruned::default();
        let unused = self.volumes()?.into_iter();
        for found in unused.filter(|volume| volume.attached_to.is_empty() && volume.declared_by.is_empty()) {
            if !dry_run {
                match self.remove_volume(&found.name, false) {
                    Ok(()) => {}
                    // Somebody took it, or removed it, since.
                    Err(Error::State(
                        microagent_state::Error::VolumeInUse { .. }
                        | microagent_state::Error::VolumeDeclared { .. }
                        | microagent_state::Error::VolumeNotFound { .. },
                    )) => continue,
                    Err(error) => return Err(error),
                }
            }
            pruned.bytes += found.used_bytes;
            pruned.removed.push(found.name);
        }
        Ok(pruned)
    }

    /// Makes a volume that nobody has larger, to `size_mib` in all. Its file system grows when a workspace next has it to write to.
    pub fn resize_volume(&self, name: &VolumeName, size_mib: u64) -> Result<VolumeStatus, Error> {
        check_size(size_mib)?;
        self.state().find_volume(name)?.resize(size_mib)?;
        self.volume(name)
    }
}

fn check_size(size_mib: u64) -> Result<(), Error> {
    let (min, max) = (*SIZES_MIB.start(), *SIZES_MIB.end());
    if SIZES_MIB.contains(&size_mib) {
        return Ok(());
    }
    Err(Error::OutOfRange { option: "--size-mib", value: size_mib, min, max })
}

fn status(volume: &Volume, declared_by: Vec<Name>) -> Result<VolumeStatus, Error> {
    let record = volume.record()?;
    let path = volume.disk();
    let metadata = path.metadata().map_err(microagent_state::Error::io("look at", &path))?;
    Ok(VolumeStatus {
        name: record.name,
        size_mib: record.size_mib,
        used_bytes: metadata.blocks() * 512,
        created_at: record.created_at,
        attached_to: volume.attached_to()?,
        declared_by,
        path,
    })
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
