//! The volumes of a state directory.

use super::{DISK, Volume, VolumeName, attachment};
use crate::dir::make_private;
use crate::gc::{DOOMED_PREFIX, NEW_PREFIX};
use crate::record::{MountMode, Record, VolumeRecord};
use crate::{Error, StateDir};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl StateDir {
    /// Makes a volume whose disk, `size_mib` large, `format` writes to the path it is given. It appears complete or not at all.
    pub fn create_volume<E: From<Error>>(
        &self,
        name: &VolumeName,
        size_mib: u64,
        format: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Volume, E> {
        let parent = self.volumes_dir();
        let path = parent.join(name.as_str());
        make_private(&parent)?;
        let exists = || Error::VolumeExists { name: name.to_string() };
        if path.exists() {
            return Err(exists().into());
        }
        // Shared by makers: whoever clears away has it for itself, and so never sees a directory that is just being filled.
        let making = self.volumes_lock()?;
        making.lock_shared().map_err(Error::io("lock", &parent))?;
        let new = tempfile::Builder::new()
            .prefix(NEW_PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(Error::io("make a volume in", &parent))?;
        let disk = new.path().join(DISK);
        format(&disk)?;
        let finish = || {
            std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o600))?;
            File::open(&disk)?.sync_all()
        };
        finish().map_err(Error::io("finish", &disk))?;
        let record = VolumeRecord { name: name.clone(), size_mib, created_at: jiff::Timestamp::now() };
        record.store(new.path())?;
        match renameat_with(CWD, new.path(), CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists().into()),
            Err(errno) => return Err(Error::io("make the volume", &path)(errno.into()).into()),
        }
        let _gone = new.keep();
        Ok(Volume { name: name.clone(), path })
    }

    /// Finds a volume.
    pub fn find_volume(&self, name: &VolumeName) -> Result<Volume, Error> {
        let path = self.volumes_dir().join(name.as_str());
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(Volume { name: name.clone(), path }),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("look at", &path)(error)),
            _ => Err(Error::VolumeNotFound { name: name.to_string() }),
        }
    }

    /// All volumes, in order of their names.
    pub fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let mut volumes: Vec<Volume> = self
            .volume_entries()?
            .into_iter()
            .filter_map(|path| {
                let name = VolumeName::new(path.file_name()?.to_str()?).ok()?;
                path.is_dir().then_some(Volume { name, path })
            })
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Clears away volumes that were never finished, or whose removal was interrupted. Returns the names of their directories.
    pub(crate) fn sweep_volumes(&self) -> Result<Vec<String>, Error> {
        let parent = self.volumes_dir();
        if !parent.exists() {
            return Ok(Vec::new());
        }
        let sweeping = self.volumes_lock()?;
        sweeping.lock().map_err(Error::io("lock", &parent))?;
        let mut removed = Vec::new();
        for path in self.volume_entries()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let leftover = name.starts_with(NEW_PREFIX) || name.starts_with(DOOMED_PREFIX);
            // Whoever removes a volume holds its lock to the end.
            if leftover && attachment::lock(&path, MountMode::ReadWrite).is_ok_and(|lock| lock.is_some()) {
                match std::fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
                    _ => removed.push(name),
                }
            }
        }
        Ok(removed)
    }

    fn volume_entries(&self) -> Result<Vec<PathBuf>, Error> {
        let parent = self.volumes_dir();
        match std::fs::read_dir(&parent) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::io("list", &parent)(source)),
            Ok(entries) => entries.map(|entry| Ok(entry.map_err(Error::io("list", &parent))?.path())).collect(),
        }
    }

    fn volumes_lock(&self) -> Result<File, Error> {
        let path = self.volumes_dir().join(".lock");
        let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        options.map_err(Error::io("open", &path))
    }

    fn volumes_dir(&self) -> PathBuf {
        self.root().join("volumes")
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
