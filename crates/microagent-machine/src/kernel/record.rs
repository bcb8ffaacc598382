//! `kernel.json`: what is known of an installed kernel, and the digests its files must have.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::modules::Chosen;
use super::{Error, Facts, ImageFormat, Kernel, Module, Origin, Result, Stage};

const VERSION: u32 = 1;
const FILE: &str = "kernel.json";
/// The folder of the modules, beside the record.
pub(super) const MODULES: &str = "modules";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) release: String,
    pub(super) backend: String,
    pub(super) arch: String,
    pub(super) format: ImageFormat,
    pub(super) origin: Origin,
    pub(super) digest: String,
    pub(super) image: FileRecord,
    pub(super) modules: Vec<ModuleRecord>,
    /// The list of what is builtin, kept beside the modules so that they can serve another image of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) builtin: Option<FileRecord>,
    pub(super) facts: Facts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRecord {
    /// A plain file name: the image beside the record, a module in [`MODULES`].
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleRecord {
    pub(super) name: String,
    pub(super) stage: Stage,
    pub(super) content: FileRecord,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    pub(super) fn new(
        release: String,
        format: ImageFormat,
        origin: Origin,
        image: FileRecord,
        modules: Vec<ModuleRecord>,
        builtin: Option<FileRecord>,
        facts: Facts,
    ) -> Record {
        Record {
            version: VERSION,
            name: name_of(&release),
            digest: digest_of(format, &image, &modules),
            backend: super::BACKEND.to_owned(),
            arch: super::host_architecture().to_owned(),
            release,
            format,
            origin,
            image,
            modules,
            builtin,
            facts,
        }
    }

    /// Reads the record of the kernel in `directory`. `Ok(None)` if there is none.
    pub(super) fn load(directory: &Path) -> Result<Option<Record>> {
        let path = directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read the kernel record", &path)(error)),
        };
        let invalid = |source| Error::Record { path: path.clone(), source };
        // The version comes first: a newer record has unknown fields, and the version is the truer complaint.
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(invalid)?;
        if version != VERSION {
            return Err(Error::RecordVersion { path, found: version, known: VERSION });
        }
        let record: Record = serde_json::from_slice(&bytes).map_err(invalid)?;
        if let Some(file) = record.files().map(|file| &file.file).find(|file| !is_plain_name(file)) {
            return Err(Error::damaged(&path, format!("`{file}` is not the name of a file beside it")));
        }
        Ok(Some(record))
    }

    pub(super) fn store(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|source| Error::Record { path: path.clone(), source })?;
        write_file(&path, &json)?;
        Ok(())
    }

    /// The kernel this describes, its files being in `directory`.
    pub(super) fn into_kernel(self, directory: &Path) -> Kernel {
        let modules = directory.join(MODULES);
        Kernel {
            name: self.name,
            release: self.release,
            image: directory.join(self.image.file),
            format: self.format,
            modules: self
                .modules
                .into_iter()
                .map(|module| Module {
                    name: module.name,
                    path: modules.join(module.content.file),
                    stage: module.stage,
                })
                .collect(),
            facts: self.facts,
            origin: self.origin,
            digest: self.digest,
        }
    }

    /// The files of the kernel in `directory`, each with the digest it must have.
    pub(super) fn digests(&self, directory: &Path) -> Vec<(PathBuf, String)> {
        let modules = directory.join(MODULES);
        let beside_modules = self.modules.iter().map(|module| &module.content).chain(&self.builtin);
        std::iter::once((directory.join(&self.image.file), self.image.sha256.clone()))
            .chain(beside_modules.map(|content| (modules.join(&content.file), content.sha256.clone())))
            .collect()
    }

    fn files(&self) -> impl Iterator<Item = &FileRecord> {
        std::iter::once(&self.image).chain(self.modules.iter().map(|module| &module.content)).chain(&self.builtin)
    }
}

impl FileRecord {
    /// Writes `content` to `directory/name`, flushed to disk, and returns what to expect when reading it back.
    pub(super) fn write(directory: &Path, name: &str, content: &[u8]) -> Result<FileRecord> {
        write_file(&directory.join(name), content)?;
        Ok(FileRecord { file: name.to_owned(), size: content.len() as u64, sha256: sha256_of(content) })
    }
}

impl ModuleRecord {
    /// Writes `module` to `directory` and returns what to expect when reading it back.
    pub(super) fn write(directory: &Path, module: Chosen) -> Result<ModuleRecord> {
        let content = FileRecord::write(directory, &format!("{}.ko", module.name), &module.content)?;
        Ok(ModuleRecord { name: module.name, stage: module.stage, content })
    }
}

/// Hexadecimal sha256 of `content`.
pub(super) fn sha256_of(content: &[u8]) -> String {
    hexadecimal(&Sha256::digest(content))
}

/// Hexadecimal sha256 of the file at `path`, read in pieces.
pub(super) fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// `bytes` in lower case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A folder name for a release. Releases come from the kernel image, so they may hold anything.
pub(super) fn name_of(release: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let name: String = release.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    // A leading dot is how the store marks folders that are not kernels, and `default` is its link to one.
    match name.as_str() {
        "" | "default" => format!("_{name}"),
        _ if name.starts_with('.') => format!("_{name}"),
        _ => name,
    }
}

fn is_plain_name(file: &str) -> bool {
    !file.is_empty() && !file.contains('/') && file != "." && file != ".."
}

fn digest_of(format: ImageFormat, image: &FileRecord, modules: &[ModuleRecord]) -> String {
    let mut listing = format!("{format:?} {}\n", image.sha256);
    for module in modules {
        let _ = writeln!(listing, "{} {} {}", module.stage, module.name, module.content.sha256);
    }
    sha256_of(listing.as_bytes())
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(Error::io("write", path))
}
