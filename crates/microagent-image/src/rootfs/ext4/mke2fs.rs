//! The blank disk as the system's own `mke2fs` makes it, for whoever trusts that more.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rootfs::Error;

/// Formats a sparse file of `size` bytes at `path` with `program`, an `mke2fs`.
///
/// The options ask for what [`format_blank_ext4`](super::format_blank_ext4) writes: 4 KiB blocks, 256-byte inodes, a journal, nothing
/// initialised that can be left for later, and no blocks held back for root.
pub fn format_with_mke2fs(program: &Path, path: &Path, size: u64) -> Result<(), Error> {
    let file = File::options().write(true).create(true).truncate(true).open(path);
    file.and_then(|file| file.set_len(size)).map_err(|source| Error::Write { what: "the blank disk", source })?;
    let output = Command::new(program)
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0"])
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::RunMke2fs { program: program.into(), path: path.into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Error::Mke2fsFailed { program: program.into(), path: path.into(), status: output.status, stderr })
}
