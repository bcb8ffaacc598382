//! `--kernel PATH`: a [`Kernel`] of any image on this host.
//!
//! The image is unpacked once into a cache inside the store and found again by the identity of the file (path, inode,
//! size, time of change), so that a second run costs one `stat` and one small read.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::assemble::{assemble, find_image, find_modules};
use super::record::{MODULES, Record, hexadecimal, name_of, sha256_of_file};
use super::store::{KernelStore, create_directory, publish};
use super::{Error, Kernel, Origin, Result};

/// Where unpacked images are kept, out of sight of `list`.
const CACHE: &str = ".by-path";
/// How many are kept. Somebody who bisects kernels goes back and forth between a few.
const MOST_CACHED: usize = 8;

impl KernelStore {
    /// The kernel in the file `path`, any ELF or `vmlinuz`, or in the directory `path`. Its modules are those that lie
    /// beside it, else those of an installed kernel of the same release, else the host's of that release, else none:
    /// then what a guest needs has to be builtin.
    pub fn resolve(&self, path: &Path) -> Result<Kernel> {
        let mut image = fs::canonicalize(path).map_err(Error::io("open the kernel", path))?;
        if image.is_dir() {
            image = find_image(&image)?;
        }
        if let Some(kernel) = self.installed_image(&image)? {
            return Ok(kernel);
        }
        let folder = self.directory().join(CACHE).join(identity(&image)?);
        if let Some(kernel) = self.cached(&folder, &image) {
            return Ok(kernel);
        }
        let _lock = self.lock(&mut |_| {})?;
        if let Some(kernel) = self.cached(&folder, &image) {
            return Ok(kernel);
        }
        let work = self.unfinished()?;
        let sha256 = sha256_of_file(&image).map_err(Error::io("read", &image))?;
        let origin = Origin::File { path: image.clone(), sha256 };
        let unpacked = work.path().join("kernel");
        let record = assemble(&image, &|release| self.modules_of(release), origin, &unpacked)?;
        self.make_room()?;
        publish(&unpacked, &folder)?;
        Ok(record.into_kernel(&folder))
    }

    /// The kernel whose image is `image`, if that is one of ours.
    fn installed_image(&self, image: &Path) -> Result<Option<Kernel>> {
        let Ok(store) = fs::canonicalize(self.directory()) else { return Ok(None) };
        match image.strip_prefix(&store).ok().and_then(|rest| rest.iter().next()?.to_str()) {
            Some(name) if !name.starts_with('.') => self.get(name).map(Some),
            _ => Ok(None),
        }
    }

    /// The kernel in `folder`, unless it has no modules and now there are some. A folder that cannot be read is built
    /// again.
    fn cached(&self, folder: &Path, image: &Path) -> Option<Kernel> {
        let record = Record::load(folder).ok().flatten()?;
        let without_modules = record.modules.is_empty() && record.builtin.is_none();
        if without_modules && find_modules(image, &record.release, &self.modules_of(&record.release)).is_some() {
            return None;
        }
        Some(record.into_kernel(folder))
    }

    /// Where the modules of an installed kernel of `release` lie.
    pub(super) fn modules_of(&self, release: &str) -> PathBuf {
        self.directory().join(name_of(release)).join(MODULES)
    }

    /// Removes the oldest cached images until there is room for one more.
    fn make_room(&self) -> Result<()> {
        let cache = self.directory().join(CACHE);
        create_directory(&cache)?;
        let mut folders = fs::read_dir(&cache)
            .and_then(|entries| {
                entries
                    .map(|entry| {
                        let entry = entry?;
                        Ok((entry.metadata()?.modified()?, entry.path()))
                    })
                    .collect::<Result<Vec<_>, std::io::Error>>()
            })
            .map_err(Error::io("list", &cache))?;
        folders.sort();
        let excess = folders.len().saturating_sub(MOST_CACHED - 1);
        for (_, folder) in folders.into_iter().take(excess) {
            fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
        }
        Ok(())
    }
}

/// A name for the file at `path` as it is now. Another file, or other content, has another name.
fn identity(path: &Path) -> Result<String> {
    let file = fs::metadata(path).map_err(Error::io("look at", path))?;
    let mut hasher = Sha256::new();
    hasher.update(path.as_os_str().as_bytes());
    for number in [file.dev(), file.ino(), file.size(), file.mtime().cast_unsigned(), file.mtime_nsec().cast_unsigned()]
    {
        hasher.update(number.to_le_bytes());
    }
    Ok(hexadecimal(&hasher.finalize()[..16]))
}
