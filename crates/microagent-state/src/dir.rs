//! The state directory itself.

use crate::{Error, Lease, Name, Workspace};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Environment variable that names the state directory.
const STATE_DIR_VARIABLE: &str = "MICROAGENT_STATE_DIR";

/// The directory under which everything is kept.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

/// For as long as somebody has this, no garbage is collected among workspaces.
#[derive(Debug)]
pub struct Unswept {
    _lock: File,
}

impl StateDir {
    /// Opens the state directory at `root`, which is made when something is put into it. Directories are for their owner only.
    pub fn open(root: impl Into<PathBuf>) -> Result<StateDir, Error> {
        let root = root.into();
        let root = std::path::absolute(&root).map_err(Error::io("find", root))?;
        Ok(StateDir { root })
    }

    /// Where the state directory is unless somebody says otherwise: `$MICROAGENT_STATE_DIR`, else `~/.microagent`.
    pub fn default_path() -> Result<PathBuf, Error> {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        given(STATE_DIR_VARIABLE)
            .map(PathBuf::from)
            .or_else(|| given("HOME").map(|home| Path::new(&home).join(".microagent")))
            .ok_or(Error::NoStateDir)
    }

    /// Makes the directory now, for its owner only, if it is not there.
    pub fn prepare(&self) -> Result<(), Error> {
        make_private(&self.root)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the workspaces.
    pub(crate) fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    /// Makes an empty workspace and takes its lease.
    pub fn create(&self, name: &Name) -> Result<Workspace, Error> {
        let parent = self.workspaces();
        let path = parent.join(name.as_str());
        make_private(&parent)?;
        let exists = || Error::Exists { name: name.to_string() };
        // Made under a name of its own and renamed with the lease already held, so that no collector ever sees a workspace that nobody
        // holds yet. The shared lock closes the gap before the lease exists.
        let sweeping = self.sweep_lock()?;
        sweeping.lock_shared().map_err(Error::io("lock", &parent))?;
        let new = tempfile::Builder::new()
            .prefix(crate::gc::NEW_PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(Error::io("make a workspace in", &parent))?;
        let lease = Lease::acquire(new.path())?.ok_or_else(|| Error::InUse { name: name.to_string() })?;
        match renameat_with(CWD, new.path(), CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists()),
            Err(errno) => return Err(Error::io("make the workspace", &path)(errno.into())),
        }
        let _gone = new.keep();
        Ok(Workspace::new(name.clone(), path, Some(lease)))
    }

    /// Finds a workspace to look at.
    pub fn find(&self, name: &Name) -> Result<Workspace, Error> {
        let path = self.workspaces().join(name.as_str());
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(Workspace::new(name.clone(), path, None)),
            Ok(_) => Err(Error::NotFound { name: name.to_string() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NotFound { name: name.to_string() }),
            Err(source) => Err(Error::io("look at", &path)(source)),
        }
    }

    /// Finds a workspace and takes its lease.
    pub fn acquire(&self, name: &Name) -> Result<Workspace, Error> {
        let found = self.find(name)?;
        let lease = Lease::acquire(found.path())?.ok_or_else(|| Error::InUse { name: name.to_string() })?;
        Ok(Workspace::new(name.clone(), found.path().to_owned(), Some(lease)))
    }

    /// The names of all workspaces, in order.
    pub fn names(&self) -> Result<Vec<Name>, Error> {
        let parent = self.workspaces();
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(&parent) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
            entries => entries.map_err(Error::io("list", &parent))?,
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &parent))?;
            names.extend(entry.file_name().to_str().and_then(|name| Name::new(name).ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The lock that makers of workspaces share and the collector has for itself.
    /// Keeps workspaces that nobody holds from being collected as garbage, until it is dropped.
    pub fn unswept(&self) -> Result<Unswept, Error> {
        make_private(&self.workspaces())?;
        let lock = self.sweep_lock()?;
        lock.lock_shared().map_err(Error::io("lock", &self.workspaces()))?;
        Ok(Unswept { _lock: lock })
    }

    pub(crate) fn sweep_lock(&self) -> Result<File, Error> {
        let path = self.workspaces().join(".lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))
    }
}

/// Makes a directory for its owner only, if it is not there.
pub(crate) fn make_private(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("make the state directory", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn scratch() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        (dir, state)
    }

    #[test]
    fn directories_are_for_their_owner_only() {
        let (_dir, state) = scratch();
        let workspace = state.create(&Name::new("a").unwrap()).unwrap();
        for path in [state.root(), workspace.path(), &state.workspaces()] {
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_name_is_given_once_and_a_held_workspace_cannot_be_taken() {
        let (_dir, state) = scratch();
        let name = Name::new("a").unwrap();
        let held = state.create(&name).unwrap();
        assert!(matches!(state.create(&name), Err(Error::Exists { .. })));
        assert!(matches!(state.acquire(&name), Err(Error::InUse { .. })));
        drop(held);
        state.acquire(&name).unwrap().remove().unwrap();
        assert!(matches!(state.find(&name), Err(Error::NotFound { .. })));
        assert!(state.names().unwrap().is_empty());
    }
}
