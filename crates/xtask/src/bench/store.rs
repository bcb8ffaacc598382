//! Directories to measure in.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{Error, Result, tool, workspace};

/// A directory in the cache's file system, removed with this value. It lies there because `/tmp` may be in memory.
pub(super) struct Store {
    directory: TempDir,
}

impl Store {
    /// An empty one.
    pub(super) fn new() -> Result<Store> {
        let cache = workspace::cache("bench")?;
        let directory = tempfile::tempdir_in(&cache).map_err(Error::file("create a directory in", &cache))?;
        Ok(Store { directory })
    }

    /// A state directory with the kernels of the one at `from`, and nothing else.
    pub(super) fn with_kernel(from: &Path) -> Result<Store> {
        let store = Store::new()?;
        tool::capture(Command::new("cp").arg("-a").arg(from.join("kernels")).arg(store.path()))?;
        Ok(store)
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}
