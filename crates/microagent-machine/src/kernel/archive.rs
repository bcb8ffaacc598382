//! Unpacking of kernel packages: a `.deb` is an `ar` of compressed tars, an `.rpm` a compressed cpio after two headers.
//!
//! Nothing in a package is trusted and little of it is needed. Only regular files below `boot/` and `lib/modules/` are
//! written, under names made of plain components, within limits on bytes and entries; links, devices, maintainer
//! scripts and everything else are passed over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::{Error, Result, compression, cpio};

/// What may come out of one package. Debian's cloud kernel is 105 MB in 1,124 files; general kernels are several times that.
const LARGEST_UNPACKED: u64 = 4 << 30;
const MOST_ENTRIES: u64 = 200_000;

const DEB_MAGIC: &[u8] = b"!<arch>\n";
const RPM_MAGIC: &[u8] = b"\xed\xab\xee\xdb";
const RPM_LEAD: u64 = 96;
const RPM_HEADER_MAGIC: &[u8] = b"\x8e\xad\xe8\x01";
/// The size rpm itself refuses to exceed for a header.
const RPM_LARGEST_HEADER: u64 = 256 << 20;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Package {
    Deb,
    Rpm,
}

impl Package {
    /// The kind of package `start` begins, if any.
    pub(super) fn detect(start: &[u8]) -> Option<Package> {
        if start.starts_with(DEB_MAGIC) {
            Some(Package::Deb)
        } else if start.starts_with(RPM_MAGIC) {
            Some(Package::Rpm)
        } else {
            None
        }
    }

    /// Unpacks what a kernel may need from the package at `path` into the directory `into`.
    pub(super) fn unpack(self, path: &Path, into: &Path) -> Result<()> {
        let file = BufReader::with_capacity(1 << 17, File::open(path).map_err(Error::io("open", path))?);
        let target = Target { package: path, into, bytes: 0, entries: 0 };
        match self {
            Package::Deb => unpack_deb(file, target),
            Package::Rpm => unpack_rpm(file, target),
        }
    }
}

/// Where members go, and how much has gone there.
struct Target<'a> {
    package: &'a Path,
    into: &'a Path,
    bytes: u64,
    entries: u64,
}

impl Target<'_> {
    fn count_entry(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(Error::TooLarge { path: self.package.to_owned(), limit: MOST_ENTRIES, unit: "entries" });
        }
        Ok(())
    }

    /// Writes one regular file if it is one a kernel may need.
    fn write(&mut self, name: &Path, content: &mut dyn Read) -> Result<()> {
        let Some(name) = wanted(name) else { return Ok(()) };
        let path = self.into.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create the directory", parent))?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("unpack a package to", &path))?;
        self.copy(content, file, &path)
    }

    /// Copies a member. What fails to be read is the package's fault, what fails to be written this host's.
    fn copy(&mut self, content: &mut dyn Read, mut file: File, path: &Path) -> Result<()> {
        let mut buffer = [0; 1 << 14];
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::reading(self.package)(error)),
            };
            self.bytes += count as u64;
            if self.bytes > LARGEST_UNPACKED {
                return Err(Error::TooLarge { path: self.package.to_owned(), limit: LARGEST_UNPACKED, unit: "bytes" });
            }
            file.write_all(&buffer[..count]).map_err(Error::io("write", path))?;
        }
    }
}

/// The name to unpack a member under, or `None` if a kernel has no use for it or the name is not a plain path.
fn wanted(name: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => plain.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    // Distributions that merged `/usr` ship `usr/lib/modules`.
    let plain = plain.strip_prefix("usr").unwrap_or(&plain);
    (plain.starts_with("boot") || plain.starts_with("lib/modules")).then(|| plain.to_owned())
}

fn unpack_deb(mut file: impl io::BufRead, mut target: Target<'_>) -> Result<()> {
    let package = target.package;
    let mut magic = [0; DEB_MAGIC.len()];
    file.read_exact(&mut magic).map_err(Error::reading(package))?;
    loop {
        let Some((name, size)) = read_ar_header(&mut file, package)? else {
            return Err(Error::damaged(package, "it has no `data.tar` member"));
        };
        if name.starts_with("data.tar") {
            let member = BufReader::with_capacity(1 << 17, file.take(size));
            return unpack_tar(compression::reader(member, package)?, &mut target);
        }
        // Members are padded to an even size.
        let skip = size + size % 2;
        let skipped = io::copy(&mut (&mut file).take(skip), &mut io::sink()).map_err(Error::reading(package))?;
        if skipped < skip {
            return Err(Error::damaged(package, format!("it ends inside its member `{name}`")));
        }
    }
}

/// The name and size of the next `ar` member; `None` at the end.
fn read_ar_header(file: &mut impl Read, package: &Path) -> Result<Option<(String, u64)>> {
    const HEADER: u64 = 60;
    let mut header = Vec::new();
    file.take(HEADER).read_to_end(&mut header).map_err(Error::reading(package))?;
    if header.is_empty() {
        return Ok(None);
    }
    let text = |range: std::ops::Range<usize>| header.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let name = text(0..16).map(|name| name.trim_end().trim_end_matches('/').to_owned());
    let size = text(48..58).and_then(|size| size.trim_end().parse().ok());
    match (name, size, text(58..60)) {
        (Some(name), Some(size), Some("`\n")) => Ok(Some((name, size))),
        _ => Err(Error::damaged(package, "an `ar` member header was expected and is not there")),
    }
}

fn unpack_tar(data: impl Read, target: &mut Target<'_>) -> Result<()> {
    let package = target.package;
    let mut archive = tar::Archive::new(data);
    for entry in archive.entries().map_err(Error::reading(package))? {
        let mut entry = entry.map_err(Error::reading(package))?;
        target.count_entry()?;
        if entry.header().entry_type().is_file() {
            let name = entry.path().map_err(Error::reading(package))?.into_owned();
            target.write(&name, &mut entry)?;
        }
    }
    Ok(())
}

fn unpack_rpm(mut file: BufReader<File>, mut target: Target<'_>) -> Result<()> {
    let package = target.package;
    file.seek(SeekFrom::Start(RPM_LEAD)).map_err(Error::reading(package))?;
    let signature = skip_rpm_header(&mut file, package)?;
    file.seek_relative((signature.wrapping_neg() % 8).cast_signed()).map_err(Error::reading(package))?;
    skip_rpm_header(&mut file, package)?;
    let payload = compression::reader(file, package)?;
    cpio::read(payload, |entry, content| {
        target.count_entry().map_err(Stop::Because)?;
        if entry.regular {
            target.write(Path::new(&entry.name), content).map_err(Stop::Because)?;
        }
        Ok(())
    })
    .map_err(|stop| match stop {
        Stop::Because(error) => error,
        Stop::Reading(error) => Error::reading(package)(error),
    })
}

/// Skips one header structure and returns its size.
fn skip_rpm_header(file: &mut BufReader<File>, package: &Path) -> Result<u64> {
    let mut intro = [0; 16];
    file.read_exact(&mut intro).map_err(Error::reading(package))?;
    let [m0, m1, m2, m3, _, _, _, _, i0, i1, i2, i3, s0, s1, s2, s3] = intro;
    if [m0, m1, m2, m3] != *RPM_HEADER_MAGIC {
        return Err(Error::damaged(package, "an rpm header was expected and is not there"));
    }
    let entries = u64::from(u32::from_be_bytes([i0, i1, i2, i3]));
    let store = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
    let size = entries * 16 + store;
    if size > RPM_LARGEST_HEADER {
        return Err(Error::TooLarge { path: package.to_owned(), limit: RPM_LARGEST_HEADER, unit: "bytes of header" });
    }
    file.seek_relative(size.cast_signed()).map_err(Error::reading(package))?;
    Ok(size)
}

/// Why the walk over a cpio ended early: the archive is bad, or a member was refused.
enum Stop {
    Reading(io::Error),
    Because(Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Reading(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_below_boot_and_modules_are_unpacked() {
        for (name, expected) in [
            ("./boot/vmlinuz-6.1", Some("boot/vmlinuz-6.1")),
            ("/usr/lib/modules/6.1/vmlinuz", Some("lib/modules/6.1/vmlinuz")),
            ("lib/modules/../../etc/passwd", None),
            ("../boot/vmlinuz", None),
            ("etc/passwd", None),
            ("bootstrap", None),
        ] {
            assert_eq!(wanted(Path::new(name)), expected.map(PathBuf::from), "{name}");
        }
    }
}
