//! The kernel of the lab's machine: Debian's own, taken from its package without installing it.
//!
//! It is the general kernel and not the cloud one that guests boot, which has no 9P: the lab's machine sees the host's
//! files over 9P.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lzma_rust2::XzReader;

use crate::{Error, Result, tool, workspace};

/// The package that depends on Debian's current kernel package.
const META_PACKAGE: &str = "linux-image-amd64";
/// What the init script needs: the transport, the ports, the host's files, KVM, and network devices for VMMs.
const MODULES: [&str; 7] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "kvm_amd", "tun"];

/// A kernel unpacked into the cache.
#[derive(Debug)]
pub(super) struct Kernel {
    directory: PathBuf,
}

impl Kernel {
    /// The cached kernel. The first call downloads and unpacks it, which takes some 10 s.
    pub(super) fn prepare() -> Result<Kernel> {
        let cache = workspace::cache("kvm-lab")?;
        let kernel = Kernel { directory: cache.join("kernel") };
        if kernel.directory.exists() {
            return Ok(kernel);
        }
        eprintln!("downloading a kernel for the lab's machine");
        let scratch = tempfile::tempdir_in(&cache).map_err(Error::file("create a directory in", &cache))?;
        let package = download(scratch.path())?;
        let unpacked = scratch.path().join("unpacked");
        tool::capture(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;

        let ready = scratch.path().join("ready");
        fs::create_dir(&ready).map_err(Error::file("create", &ready))?;
        extract_elf(&unpacked.join("boot"), &ready.join("vmlinux"))?;
        copy_modules(&unpacked.join("lib/modules"), &ready.join("modules"))?;
        match fs::rename(&ready, &kernel.directory) {
            // Another process was quicker: its kernel is as good.
            Err(_) if kernel.directory.exists() => Ok(kernel),
            renamed => renamed.map(|()| kernel).map_err(Error::file("rename", &ready)),
        }
    }

    /// The kernel as an ELF file, which boots without the seconds that unpacking itself takes under emulation.
    pub(super) fn vmlinux(&self) -> PathBuf {
        self.directory.join("vmlinux")
    }

    /// The modules, in the order to load them.
    pub(super) fn modules(&self) -> Result<Vec<PathBuf>> {
        let mut modules = list(&self.directory.join("modules"))?;
        modules.sort();
        Ok(modules)
    }
}

/// Downloads the current kernel package into `directory`.
fn download(directory: &Path) -> Result<PathBuf> {
    let mut query = Command::new("apt-cache");
    query.args(["depends", "--important", META_PACKAGE]);
    let depends = tool::capture(&mut query)?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let missing = || Error::Unexpected { line: tool::line(&query), wanted: "kernel package; run `apt-get update`" };
    let package = package.ok_or_else(missing)?;
    tool::capture(Command::new("apt-get").args(["download", package]).current_dir(directory))?;
    list(directory)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| unusable("package", directory))
}

/// Unpacks the ELF kernel inside the `vmlinuz` in `boot`.
fn extract_elf(boot: &Path, to: &Path) -> Result<()> {
    let vmlinuz = list(boot)?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .ok_or_else(|| unusable("vmlinuz", boot))?;
    let image = fs::read(&vmlinuz).map_err(Error::file("read", &vmlinuz))?;
    let payload = payload(&image).ok_or_else(|| unusable("payload in vmlinuz", &vmlinuz))?;
    let mut elf = Vec::new();
    XzReader::new(payload, false).read_to_end(&mut elf).map_err(Error::file("unpack", &vmlinuz))?;
    if !elf.starts_with(b"\x7fELF") {
        return Err(unusable("ELF kernel in vmlinuz", &vmlinuz));
    }
    fs::write(to, elf).map_err(Error::file("write", to))
}

/// The compressed kernel in a bzImage: `setup_sects`, `payload_offset` and `payload_length` of the x86 boot protocol.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let field = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * 512 + field(0x248)?;
    image.get(start..start.checked_add(field(0x24c)?)?)
}

/// Copies [`MODULES`] and what they need out of the tree `from`, numbered in the order to load them.
fn copy_modules(from: &Path, to: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    index(from, &mut files)?;
    let mut order = Vec::new();
    for name in MODULES {
        resolve(name, &files, &mut BTreeSet::new(), &mut order)?;
    }
    fs::create_dir(to).map_err(Error::file("create", to))?;
    for (position, name) in order.iter().enumerate() {
        let copy = to.join(format!("{position:02}-{name}.ko"));
        fs::copy(&files[name], &copy).map_err(Error::file("copy", &files[name]))?;
    }
    Ok(())
}

/// Finds every module below `directory`, by its name as the kernel spells it.
fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in list(directory)? {
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ko")) {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// Appends to `order` what module `name` depends on, then `name` itself. `seen` ends a circle of dependencies.
fn resolve(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) -> Result<()> {
    let name = name.replace('-', "_");
    if order.contains(&name) || !seen.insert(name.clone()) {
        return Ok(());
    }
    let path = files.get(&name).ok_or_else(|| unusable(&name, Path::new("the kernel package")))?;
    let module = fs::read(path).map_err(Error::file("read", path))?;
    for dependency in dependencies(&module) {
        resolve(&dependency, files, seen, order)?;
    }
    order.push(name);
    Ok(())
}

/// The names after `depends=` in a module's `.modinfo` section, whose entries end in a zero byte.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    entries.map(|entry| Ok(entry.map_err(Error::file("list", directory))?.path())).collect()
}

fn unusable(what: &str, cache: &Path) -> Error {
    Error::Kernel { what: what.to_owned(), cache: cache.to_owned() }
}
