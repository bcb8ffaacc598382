//! What a run leaves on disk when it is kept: everything that was written for it, since nothing is removed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Bench;
use super::goal::Goal;
use crate::{Error, Result, tool};

/// Bytes of a block as `stat` counts them.
const BLOCK: u64 = 512;
const NAME: &str = "written";
const GOAL: &str = "written to disk for a run of a present image";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    bench.run(&bench.debian)?;
    let before = used(bench.state.path())?;
    tool::capture(&mut bench.microagent.command(["run", "--quiet", "--keep", "--name", NAME, &bench.debian, "true"]))?;
    let written = used(bench.state.path())?.saturating_sub(before);
    let workspace = used(&bench.state.path().join("workspaces").join(NAME))?;
    tool::capture(&mut bench.microagent.command(["delete", NAME, "--yes"]))?;
    println!("\n{:<38}{:>26}{:>26}", "a kept run of debian-python, in KiB", "its workspace", "all that is new");
    println!("{:<38}{:>26}{:>26}", "blocks on disk", workspace / 1024, written / 1024);
    #[allow(clippy::cast_precision_loss, reason = "a size on disk, shown to two digits")]
    let mebibytes = written.max(workspace) as f64 / f64::from(1 << 20);
    Ok(vec![Goal::at_most(1.0, "MiB", GOAL, mebibytes)])
}

/// Bytes that the blocks of everything under `path` take; holes take none.
fn used(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path).map_err(Error::file("look at", path))?;
    let own = metadata.blocks() * BLOCK;
    if !metadata.is_dir() {
        return Ok(own);
    }
    let entries = fs::read_dir(path).map_err(Error::file("list", path))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(Error::file("list", path)));
    paths.map(|path| used(&path?)).try_fold(own, |sum, part| Ok(sum + part?))
}
