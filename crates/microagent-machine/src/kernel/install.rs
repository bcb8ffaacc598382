//! Installing: from a [`Source`] to a published kernel folder.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::archive::Package;
use super::assemble::{assemble, find_image};
use super::download::{download, parse_digest};
use super::record::sha256_of_file;
use super::store::{KernelStore, create_directory, publish};
use super::{Error, Kernel, Origin, Progress, Result, Source, apt, dnf, tool};

/// What a source turned out to be.
enum Fetched {
    /// A kernel that is installed already.
    Installed(Kernel),
    /// An image on this host, its modules near it.
    New { origin: Origin, image: PathBuf },
}

impl KernelStore {
    /// Installs a kernel and makes it the default. A kernel that is already installed from the same origin is left as
    /// it is; one of the same release with other content is replaced. Two concurrent installs do the work once.
    pub fn install(&self, source: &Source, progress: &mut dyn FnMut(Progress)) -> Result<Kernel> {
        let _lock = self.lock(progress)?;
        self.install_locked(source, progress)
    }

    /// The default kernel, installed with [`Source::Package`] if there is none.
    pub fn ensure_default(&self, progress: &mut dyn FnMut(Progress)) -> Result<Kernel> {
        match self.default_kernel() {
            Err(Error::NoDefault { .. }) => {}
            found => return found,
        }
        let _lock = self.lock(progress)?;
        match self.default_kernel() {
            Err(Error::NoDefault { .. }) => self.install_locked(&Source::Package, progress),
            found => found,
        }
    }

    fn install_locked(&self, source: &Source, progress: &mut dyn FnMut(Progress)) -> Result<Kernel> {
        let work = self.unfinished()?;
        let kernel = match self.fetch(source, work.path(), progress)? {
            Fetched::Installed(kernel) => kernel,
            Fetched::New { origin, image } => {
                let folder = work.path().join("kernel");
                let record = assemble(&image, &|release| self.modules_of(release), origin, &folder)?;
                let target = self.directory().join(&record.name);
                publish(&folder, &target)?;
                record.into_kernel(&target)
            }
        };
        self.point_default_at(&kernel.name)?;
        Ok(kernel)
    }

    /// Brings the image and the modules of `source` onto this host, below `work` unless they lie there already.
    fn fetch(&self, source: &Source, work: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Fetched> {
        match source {
            Source::Package => self.fetch_package(work, progress),
            Source::Path(path) => {
                let path = fs::canonicalize(path).map_err(Error::io("open", path))?;
                if path.is_dir() {
                    progress(Progress::Unpacking { what: path.display().to_string() });
                    return Ok(Fetched::New { image: find_image(&path)?, origin: Origin::Directory { path } });
                }
                let sha256 = sha256_of_file(&path).map_err(Error::io("read", &path))?;
                let origin = Origin::File { path: path.clone(), sha256 };
                match self.installed_from(&origin)? {
                    Some(kernel) => Ok(Fetched::Installed(kernel)),
                    None => unpack(&[path], work, origin, progress),
                }
            }
            Source::Url { url, sha256 } => {
                let sha256 = parse_digest(sha256)?;
                let origin = Origin::Url { url: url.clone(), sha256: sha256.clone() };
                if let Some(kernel) = self.installed_from(&origin)? {
                    return Ok(Fetched::Installed(kernel));
                }
                let file = work.join("download");
                download(url, &sha256, &file, progress)?;
                unpack(&[file], work, origin, progress)
            }
        }
    }

    fn fetch_package(&self, work: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Fetched> {
        let is_installed = |origin: &Origin| Ok(self.installed_from(origin)?.is_some());
        let (origin, files) = match (tool::find("apt-get"), tool::find("dnf")) {
            (Some(apt), _) => apt::fetch(&apt, work, &is_installed, progress)?,
            (None, Some(dnf)) => dnf::fetch(&dnf, work, &is_installed, progress)?,
            (None, None) => return Err(Error::NoPackageManager),
        };
        match self.installed_from(&origin)? {
            Some(kernel) => Ok(Fetched::Installed(kernel)),
            None => unpack(&files, work, origin, progress),
        }
    }
}

/// Makes `files`, packages of one kernel or one image, an image with its modules near it.
fn unpack(files: &[PathBuf], work: &Path, origin: Origin, progress: &mut dyn FnMut(Progress)) -> Result<Fetched> {
    progress(Progress::Unpacking { what: origin.to_string() });
    let unpacked = work.join("unpacked");
    create_directory(&unpacked)?;
    for file in files {
        match package_of(file)? {
            Some(package) => package.unpack(file, &unpacked)?,
            None => return Ok(Fetched::New { origin, image: file.clone() }),
        }
    }
    Ok(Fetched::New { origin, image: find_image(&unpacked)? })
}

fn package_of(file: &Path) -> Result<Option<Package>> {
    let mut start = Vec::new();
    File::open(file).and_then(|file| file.take(8).read_to_end(&mut start)).map_err(Error::io("open", file))?;
    Ok(Package::detect(&start))
}
