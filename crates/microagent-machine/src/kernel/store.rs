//! The folder of installed kernels: what is there, which one is the default, and how one gets in and out whole.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::record::{Record, sha256_of_file};
use super::{Error, Kernel, Origin, Progress, Result};

/// The link to the default kernel.
const DEFAULT: &str = "default";
/// The lock under which the folder is changed. It is held by a descriptor, so a dead process holds nothing.
const LOCK: &str = ".lock";
/// How folders that are not kernels yet, or not any more, begin.
const UNFINISHED: &str = ".unfinished-";

/// The kernels of one backend and architecture.
#[derive(Clone, Debug)]
pub struct KernelStore {
    directory: PathBuf,
}

/// An entry of [`KernelStore::list`].
#[derive(Debug)]
pub struct Installed {
    /// The name it is installed under.
    pub name: String,
    /// Whether machines boot it unless told otherwise.
    pub is_default: bool,
    /// The kernel, or why its record cannot be read. [`KernelStore::remove`] works either way.
    pub kernel: Result<Kernel>,
}

/// A file of an installed kernel that is not what was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The file.
    pub path: PathBuf,
    /// The digest it had when it was installed.
    pub expected: String,
    /// The digest it has, or `None` if it is gone.
    pub found: Option<String>,
}

impl KernelStore {
    /// The store below `kernels`, the folder of that name in the state directory. Touches nothing.
    pub fn open(kernels: &Path) -> KernelStore {
        // Without a current directory a relative path leads nowhere, made absolute or not.
        let kernels = std::path::absolute(kernels).unwrap_or_else(|_| kernels.to_owned());
        KernelStore { directory: kernels.join(super::BACKEND).join(super::host_architecture()) }
    }

    /// The folder that holds the kernels.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The kernel machines boot unless told otherwise. Reads one small file and hashes nothing.
    pub fn default_kernel(&self) -> Result<Kernel> {
        let missing = || Error::NoDefault { store: self.directory.clone() };
        let record = Record::load(&self.directory.join(DEFAULT))?.ok_or_else(missing)?;
        let directory = self.directory.join(&record.name);
        Ok(record.into_kernel(&directory))
    }

    /// The kernel installed as `name`.
    pub fn get(&self, name: &str) -> Result<Kernel> {
        let directory = self.folder(name)?;
        let record = Record::load(&directory)?.ok_or_else(|| Error::NotInstalled { name: name.to_owned() })?;
        Ok(record.into_kernel(&directory))
    }

    /// Every installed kernel, by name.
    pub fn list(&self) -> Result<Vec<Installed>> {
        let default = fs::read_link(self.directory.join(DEFAULT)).ok();
        let mut installed: Vec<Installed> = self
            .names()?
            .into_iter()
            .map(|name| Installed {
                is_default: default.as_deref() == Some(Path::new(&name)),
                kernel: self.get(&name),
                name,
            })
            .collect();
        installed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(installed)
    }

    /// Makes `name` the default.
    pub fn set_default(&self, name: &str) -> Result<()> {
        self.get(name)?;
        let _lock = self.lock(&mut |_| {})?;
        self.point_default_at(name)
    }

    /// Hashes every file of the kernel `name` and returns those that are not what was installed: none, for a healthy one.
    pub fn verify(&self, name: &str) -> Result<Vec<Drift>> {
        let directory = self.folder(name)?;
        let record = Record::load(&directory)?.ok_or_else(|| Error::NotInstalled { name: name.to_owned() })?;
        let mut drift = Vec::new();
        for (path, expected) in record.digests(&directory) {
            let found = match sha256_of_file(&path) {
                Ok(digest) => Some(digest),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            if found.as_ref() != Some(&expected) {
                drift.push(Drift { path, expected, found });
            }
        }
        Ok(drift)
    }

    /// Removes the kernel `name`. If it was the default, there is none afterwards.
    pub fn remove(&self, name: &str) -> Result<()> {
        let directory = self.folder(name)?;
        let _lock = self.lock(&mut |_| {})?;
        let trash = self.unfinished()?;
        match fs::rename(&directory, trash.path().join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotInstalled { name: name.to_owned() });
            }
            moved => moved.map_err(Error::io("remove the kernel", &directory))?,
        }
        self.drop_dangling_default()
    }

    /// Removes what interrupted installs left and returns what was removed: nothing while an install is running.
    pub fn collect_garbage(&self) -> Result<Vec<PathBuf>> {
        if !self.directory.is_dir() {
            return Ok(Vec::new());
        }
        let lock = self.open_lock()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Vec::new()),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &self.directory.join(LOCK))(error)),
        }
        let mut removed = Vec::new();
        for path in self.paths()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(UNFINISHED) {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
                removed.push(path);
            }
        }
        self.drop_dangling_default()?;
        Ok(removed)
    }

    /// Waits until no other process changes the folder. The holder's end, however it comes, ends the wait.
    pub(super) fn lock(&self, progress: &mut dyn FnMut(Progress)) -> Result<File> {
        let path = self.directory.join(LOCK);
        let lock = self.open_lock()?;
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => progress(Progress::Waiting),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        lock.lock().map_err(Error::io("lock", &path))?;
        Ok(lock)
    }

    fn open_lock(&self) -> Result<File> {
        create_directory(&self.directory)?;
        let path = self.directory.join(LOCK);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))
    }

    /// A folder for work that may not be finished; removed when dropped, or by the next collection of garbage.
    pub(super) fn unfinished(&self) -> Result<TempDir> {
        tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.directory)
            .map_err(Error::io("create a directory in", &self.directory))
    }

    /// The installed kernel that came from `origin`, if all its files are still what they were.
    pub(super) fn installed_from(&self, origin: &Origin) -> Result<Option<Kernel>> {
        for installed in self.list()? {
            if let Ok(kernel) = installed.kernel
                && kernel.origin.is_same_content(origin)
                && self.verify(&kernel.name)?.is_empty()
            {
                return Ok(Some(kernel));
            }
        }
        Ok(None)
    }

    pub(super) fn point_default_at(&self, name: &str) -> Result<()> {
        let work = self.unfinished()?;
        let link = work.path().join(DEFAULT);
        symlink(name, &link).map_err(Error::io("create the link", &link))?;
        let default = self.directory.join(DEFAULT);
        fs::rename(&link, &default).map_err(Error::io("replace", &default))
    }

    fn drop_dangling_default(&self) -> Result<()> {
        let default = self.directory.join(DEFAULT);
        if default.is_symlink() && !default.exists() {
            fs::remove_file(&default).map_err(Error::io("remove", &default))?;
        }
        Ok(())
    }

    /// The folder of `name`. Names that could not have been given to a kernel are not looked for.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') || name == DEFAULT {
            return Err(Error::NotInstalled { name: name.to_owned() });
        }
        Ok(self.directory.join(name))
    }

    fn names(&self) -> Result<Vec<String>> {
        let paths = self.paths()?.into_iter().filter(|path| path.is_dir());
        Ok(paths
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .filter(|name| !name.starts_with('.') && name != DEFAULT)
            .collect())
    }

    fn paths(&self) -> Result<Vec<PathBuf>> {
        match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
                .map_err(Error::io("list", &self.directory)),
        }
    }
}

/// Creates `directory` and its parents, for this user alone.
pub(super) fn create_directory(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(Error::io("create the directory", directory))
}

/// Puts the finished `folder` where `target` is, in one step, whether or not there is one. What was there takes the
/// place of `folder`, for the caller to remove.
pub(super) fn publish(folder: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, folder, CWD, target, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::NOENT) => fs::rename(folder, target),
        exchanged => exchanged.map_err(io::Error::from),
    }
    .map_err(Error::io("publish the kernel as", target))
}
