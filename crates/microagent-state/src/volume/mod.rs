//! Volumes: disks with a name of their own, which outlive the workspaces that use them.
//!
//! ```text
//! volumes/<name>/volume.json   what the volume is        (VolumeRecord)
//!                disk.ext4     its disk
//!                lock, attached/   who has it            (Attachment)
//!        .lock                 held while volumes are made, and by who clears away what a crash left
//! ```
//!
//! This module keeps the files; what is on the disk is for the caller to write, who is handed its path.

mod attachment;
mod name;
mod store;
mod users;

pub use attachment::{Attachment, DiskLock};
pub use name::VolumeName;

use crate::record::{MountMode, Record, VolumeRecord};
use crate::{Error, Name};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// File name of a volume's disk.
const DISK: &str = "disk.ext4";

/// A directory that is one volume.
#[derive(Clone, Debug)]
pub struct Volume {
    name: VolumeName,
    path: PathBuf,
}

impl Volume {
    /// Its name.
    pub fn name(&self) -> &VolumeName {
        &self.name
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its disk. Only who holds an [`Attachment`] may use it.
    pub fn disk(&self) -> PathBuf {
        self.path.join(DISK)
    }

    /// The record as it is on disk.
    pub fn record(&self) -> Result<VolumeRecord, Error> {
        VolumeRecord::load(&self.path)?.ok_or_else(|| Error::VolumeNotFound { name: self.name.to_string() })
    }

    /// The workspaces that have it now, in order. The answer may be outdated as soon as it is given.
    pub fn attached_to(&self) -> Result<Vec<Name>, Error> {
        attachment::holders(&self.path)
    }

    /// Gives it to `workspace`: with [`MountMode::ReadWrite`] to it alone, with [`MountMode::ReadOnly`] beside others that only read.
    pub fn attach(&self, mode: MountMode, workspace: &Name) -> Result<Attachment, Error> {
        match attachment::attach(&self.path, mode, workspace) {
            Ok(Some(attachment)) => Ok(attachment),
            Ok(None) => Err(self.gone().unwrap_or_else(|| self.in_use())),
            Err(error) => Err(self.gone().unwrap_or(error)),
        }
    }

    /// Makes its disk larger, to `size_mib` in all. The file system on it grows when a guest next has it to write to.
    pub fn resize(&self, size_mib: u64) -> Result<VolumeRecord, Error> {
        let _held = self.hold()?;
        let mut record = self.record()?;
        if size_mib < record.size_mib {
            return Err(Error::VolumeShrink { name: self.name.to_string(), size_mib: record.size_mib });
        }
        let disk = self.disk();
        let open = OpenOptions::new().write(true).open(&disk).map_err(Error::io("open", &disk))?;
        let bytes = size_mib.saturating_mul(1 << 20);
        open.set_len(bytes).and_then(|()| open.sync_all()).map_err(Error::io("make larger", &disk))?;
        record.size_mib = size_mib;
        record.store(&self.path)?;
        Ok(record)
    }

    /// Removes it and what is on it, unless somebody has it.
    pub fn remove(self) -> Result<(), Error> {
        let _held = self.hold()?;
        let doomed = crate::gc::doomed_path(&self.path);
        std::fs::rename(&self.path, &doomed).map_err(Error::io("remove", &self.path))?;
        // The volume is gone; whatever is left of its files is the collector's, which may be at them already.
        let _ = std::fs::remove_dir_all(&doomed);
        Ok(())
    }

    /// Keeps everybody from attaching it.
    fn hold(&self) -> Result<File, Error> {
        match attachment::lock(&self.path, MountMode::ReadWrite) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(self.gone().unwrap_or_else(|| self.in_use())),
            Err(error) => Err(self.gone().unwrap_or(error)),
        }
    }

    fn in_use(&self) -> Error {
        let holders = self.attached_to().unwrap_or_default();
        let by = holders.iter().map(Name::to_string).collect();
        Error::VolumeInUse { name: self.name.to_string(), by }
    }

    /// The better error where something failed because the volume was removed meanwhile.
    fn gone(&self) -> Option<Error> {
        (!self.path.is_dir()).then(|| Error::VolumeNotFound { name: self.name.to_string() })
    }
}
