//! What snapshots take on the disk, and which layers they need.

use super::layer::{Swept, on_disk};
use super::{LayerId, Layers, Manifest, Snapshot};
use crate::gc::{DOOMED_PREFIX, NEW_PREFIX};
use crate::{Error, StateDir};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What a snapshot takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Its own files, and the layers that no other snapshot needs: what deleting it frees.
    pub bytes: u64,
    /// The layers that other snapshots need, too.
    pub shared_bytes: u64,
}

/// Which layers are needed, and by how many snapshots.
#[derive(Clone, Debug)]
pub struct References {
    layers: Layers,
    counts: HashMap<LayerId, usize>,
}

impl References {
    /// What a snapshot takes on the disk.
    pub fn usage(&self, snapshot: &Snapshot) -> Result<Usage, Error> {
        let mut usage = Usage { bytes: own_bytes(snapshot.path())?, shared_bytes: 0 };
        for layer in snapshot.manifest().layers().collect::<HashSet<_>>() {
            let bytes = match self.layers.bytes(layer) {
                // One that is gone takes nothing.
                Err(Error::LayerDamaged { .. }) => 0,
                bytes => bytes?,
            };
            let shared = self.counts.get(layer).is_some_and(|&count| count > 1);
            *if shared { &mut usage.shared_bytes } else { &mut usage.bytes } += bytes;
        }
        Ok(usage)
    }
}

impl Snapshot {
    /// What it takes on the disk. For several snapshots, [`StateDir::layer_references`] is asked once instead.
    pub fn usage(&self) -> Result<Usage, Error> {
        self.state().layer_references()?.usage(self)
    }
}

impl StateDir {
    /// Which layers are needed, as far as manifests can be read.
    pub fn layer_references(&self) -> Result<References, Error> {
        let mut counts = HashMap::new();
        for manifest in self.manifests()?.into_iter().flatten() {
            for layer in manifest.layers().collect::<HashSet<_>>() {
                *counts.entry(layer.clone()).or_default() += 1;
            }
        }
        Ok(References { layers: self.layers(), counts })
    }

    /// Removes the layers that no snapshot needs, and returns how many there were and what they took on the disk; `None` while somebody
    /// writes some. Nothing is removed when a manifest cannot be read.
    pub fn sweep_layers(&self) -> Result<Option<Swept>, Error> {
        self.layers().sweep(|| {
            let mut needed = HashSet::new();
            for manifest in self.manifests()? {
                needed.extend(manifest?.layers().cloned());
            }
            Ok(needed)
        })
    }

    /// The manifests of all snapshots of all workspaces.
    pub fn manifests(&self) -> Result<Vec<Result<Manifest, Error>>, Error> {
        let mut manifests = Vec::new();
        for name in self.names()? {
            let store = self.snapshots(&name);
            let all = store.tags()?.into_iter().map(|tag| store.manifest(&tag));
            // One that is not there any more was deleted, alone or with its workspace, since its name was read.
            manifests.extend(all.filter(|manifest| !matches!(manifest, Err(Error::SnapshotNotFound { .. }))));
        }
        Ok(manifests)
    }

    /// The directories of snapshots that were never finished, or whose removal was interrupted, with what to call them.
    pub(crate) fn half_snapshots(&self) -> Result<Vec<(PathBuf, String)>, Error> {
        let mut found = Vec::new();
        for name in self.names()? {
            for path in self.snapshots(&name).entries()? {
                let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if file_name.starts_with(NEW_PREFIX) || file_name.starts_with(DOOMED_PREFIX) {
                    found.push((path, format!("{name}/snapshots/{file_name}")));
                }
            }
        }
        Ok(found)
    }
}

fn own_bytes(dir: &Path) -> Result<u64, Error> {
    let entries = std::fs::read_dir(dir).map_err(Error::io("list", dir))?;
    let bytes = entries.map(|entry| Ok(on_disk(&entry?.metadata()?)));
    bytes.sum::<std::io::Result<u64>>().map_err(Error::io("list", dir))
}
