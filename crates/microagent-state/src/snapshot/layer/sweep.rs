//! Removes layers that nobody needs.

use super::{LayerId, Layers, on_disk};
use crate::Error;
use crate::gc::NEW_PREFIX;
use serde::Serialize;
use std::collections::HashSet;
use std::fs::TryLockError;
use std::io::ErrorKind;

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Layers, and what was left of unfinished ones.
    pub layers: usize,
    /// What they took on the disk.
    pub bytes: u64,
}

impl Layers {
    /// Removes all layers but those that `referenced` names, and what is left of unfinished ones; `None` while somebody writes layers.
    /// What is referenced is asked for when nobody can write any more: a manifest published before names its layers, and one that is not
    /// published yet keeps this from being done.
    pub(crate) fn sweep(
        &self,
        referenced: impl FnOnce() -> Result<HashSet<LayerId>, Error>,
    ) -> Result<Option<Swept>, Error> {
        if !self.directory.exists() {
            return Ok(Some(Swept::default()));
        }
        let lock = self.lock()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &self.directory)(source)),
        }
        let referenced = referenced()?;
        let mut swept = Swept::default();
        for entry in std::fs::read_dir(&self.directory).map_err(Error::io("list", &self.directory))? {
            let entry = entry.map_err(Error::io("list", &self.directory))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let unfinished = name.starts_with(NEW_PREFIX);
            let unneeded = || LayerId::try_from(name).is_ok_and(|id| !referenced.contains(&id));
            if !unfinished && !unneeded() {
                continue;
            }
            let bytes = entry.metadata().map_or(0, |metadata| on_disk(&metadata));
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("remove", entry.path())(error));
                }
                _ => swept = Swept { layers: swept.layers + 1, bytes: swept.bytes + bytes },
            }
        }
        Ok(Some(swept))
    }
}
