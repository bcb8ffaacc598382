//! The initramfs: the guest agent as `/init`, the modules of one kernel, and nothing else.
//!
//! ```text
//! /init              the agent
//! /dev/console       so that the agent has somewhere to write before it mounts devtmpfs
//! /modules/*.ko      the modules of the kernel
//! /modules.list      one line per module, `<stage> <file>`, in load order (see `kernel::Stage`)
//! /dev /mnt /proc /run /sys
//! ```
//!
//! It is an uncompressed cpio in the "newc" format (`Documentation/driver-api/early-userspace/buffer-format.rst` in
//! Linux): decompression in an emulated guest costs more than reading two more megabytes. The same agent and kernel
//! always give the same bytes, so [`Initramfs::ensure`] names the file after both and finds it again with one `stat`.
//!
//! ```no_run
//! # use microagent_machine::{initramfs::Initramfs, kernel::Kernel};
//! # fn example(agent: &[u8], agent_digest: &str, kernel: &Kernel) -> Result<(), microagent_machine::initramfs::Error> {
//! let initramfs = Initramfs::ensure("/home/user/.microagent/templates/initramfs".as_ref(), agent, agent_digest, kernel)?;
//! println!("-initrd {}", initramfs.path.display());
//! # Ok(())
//! # }
//! ```

mod cpio;
mod error;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::kernel::Kernel;

pub use error::Error;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Where the agent finds its modules listed.
pub const MODULES_LIST: &str = "modules.list";
/// The folder of the modules.
pub const MODULES: &str = "modules";

/// Changes when the layout does, so that archives of an older layout are not found.
const LAYOUT: &str = "microagent initramfs 1";
const EXTENSION: &str = "cpio";
/// Mount points the agent needs before it can create any.
const DIRECTORIES: [&str; 6] = ["dev", "mnt", MODULES, "proc", "run", "sys"];
/// `/dev/console`, from `Documentation/admin-guide/devices.txt` in Linux.
const CONSOLE: (u32, u32) = (5, 1);

/// An initramfs on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// The archive, to be passed to an engine.
    pub path: PathBuf,
    /// What it was made of: equal keys are equal archives.
    pub key: String,
}

impl Initramfs {
    /// The initramfs of `agent` and `kernel` in `cache`, built if it is not there. `agent_digest` identifies the content
    /// of `agent`; it is the caller's to compute once, so that the usual case reads neither agent nor modules.
    pub fn ensure(cache: &Path, agent: &[u8], agent_digest: &str, kernel: &Kernel) -> Result<Initramfs> {
        let key = key(agent_digest, kernel);
        let path = cache.join(&key).with_added_extension(EXTENSION);
        if !path.is_file() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(cache)
                .map_err(Error::io("create the directory", cache))?;
            build(agent, kernel, &path)?;
        }
        Ok(Initramfs { path, key })
    }

    /// The key of the initramfs of `kernel` and an agent of that digest, whether or not it has been built.
    pub fn key(agent_digest: &str, kernel: &Kernel) -> String {
        key(agent_digest, kernel)
    }

    /// Removes every archive in `cache` but those with a key in `keep`, and what interrupted builds left. Returns the
    /// bytes freed. A running machine has read its archive and does not need it any more.
    pub fn prune(cache: &Path, keep: &[&str]) -> Result<u64> {
        let entries = match fs::read_dir(cache) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(Error::io("list", cache))?,
        };
        let mut freed = 0;
        for entry in entries {
            let path = entry.map_err(Error::io("list", cache))?.path();
            let kept = path.extension().is_some_and(|extension| extension == EXTENSION)
                && path.file_stem().and_then(|key| key.to_str()).is_some_and(|key| keep.contains(&key));
            if !kept {
                freed += path.symlink_metadata().map_err(Error::io("look at", &path))?.len();
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(freed)
    }
}

/// Writes the initramfs of `agent` and `kernel` to `out`, which appears whole or not at all.
pub fn build(agent: &[u8], kernel: &Kernel, out: &Path) -> Result<()> {
    let directory = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(directory).map_err(Error::io("create a file in", directory))?;
    let mut archive = cpio::Writer::new(BufWriter::with_capacity(1 << 18, file));
    write(&mut archive, agent, kernel, out)?;
    let file = archive
        .finish()
        .and_then(|buffered| buffered.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(Error::io("write", out))?;
    file.as_file().sync_all().map_err(Error::io("write", out))?;
    file.persist(out).map_err(|error| Error::io("create", out)(error.error))?;
    Ok(())
}

fn write(archive: &mut cpio::Writer<impl Write>, agent: &[u8], kernel: &Kernel, out: &Path) -> Result<()> {
    let writing = || Error::io("write", out);
    for directory in DIRECTORIES {
        archive.directory(directory, 0o755).map_err(writing())?;
    }
    archive.character_device("dev/console", 0o600, CONSOLE).map_err(writing())?;
    archive.file("init", 0o755, agent).map_err(writing())?;
    let mut list = String::new();
    for module in &kernel.modules {
        let content = fs::read(&module.path).map_err(Error::io("read the kernel module", &module.path))?;
        let file = format!("{}.ko", module.name);
        archive.file(&format!("{MODULES}/{file}"), 0o644, &content).map_err(writing())?;
        let _ = writeln!(list, "{} {file}", module.stage);
    }
    archive.file(MODULES_LIST, 0o644, list.as_bytes()).map_err(writing())
}

fn key(agent_digest: &str, kernel: &Kernel) -> String {
    let digest = Sha256::digest(format!("{LAYOUT}\n{agent_digest}\n{}\n", kernel.digest));
    digest.iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
