//! The captures of snapshots, and those of snapshots that are no more.

use crate::{Client, Error};
use microagent_machine::template::Shape;
use microagent_state::Name;
use microagent_state::snapshot::Manifest;
use std::collections::HashSet;

/// The snapshots of a workspace that is about to be removed.
pub(crate) struct Leaving {
    client: Client,
    /// How many there are.
    pub(crate) count: usize,
    captures: Vec<Shape>,
}

impl Client {
    /// Finds out what goes with the snapshots of a workspace.
    pub(crate) fn leaving(&self, name: &Name) -> Leaving {
        let store = self.state().snapshots(name);
        // What cannot be read now is swept by `gc`.
        let snapshots = store.list().unwrap_or_default();
        let captures = snapshots.iter().filter_map(|(_, snapshot)| capture(snapshot.as_ref().ok()?.manifest()));
        Leaving { client: self.clone(), count: snapshots.len(), captures: captures.collect() }
    }

    /// Removes captures of snapshots that are no more, and what is left of unfinished ones; returns the bytes freed. None of them is removed
    /// when a manifest cannot be read.
    pub(crate) fn sweep_captures(&self) -> Result<u64, Error> {
        let freed = self.capture_store().retain(|| self.captures_in_use().ok());
        Ok(freed.map_err(microagent_machine::Error::from)?)
    }

    fn captures_in_use(&self) -> Result<HashSet<String>, Error> {
        let mut keys = HashSet::new();
        for manifest in self.state().manifests()? {
            keys.extend(capture(&manifest?).map(|shape| shape.key()));
        }
        Ok(keys)
    }
}

impl Leaving {
    /// Removes what only they needed, now that they are gone. What stays is swept by `gc`.
    pub(crate) fn left(self) {
        for capture in &self.captures {
            let _ = self.client.capture_store().forget(capture);
        }
        if self.count > 0 {
            let _ = self.client.state().sweep_layers();
        }
    }
}

/// What a snapshot's capture is found by, if a machine can go on from it.
pub(super) fn capture(manifest: &Manifest) -> Option<Shape> {
    serde_json::from_value(manifest.machine.as_ref()?.shape.clone()).ok()
}
