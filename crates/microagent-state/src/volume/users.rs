//! Which workspaces declare which volumes, whether they run or not.

use super::VolumeName;
use crate::record::{DiskRecord, DiskSource, Record, WorkspaceRecord};
use crate::{Error, Name, StateDir};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The part of a workspace's record that matters here.
#[derive(Serialize, Deserialize)]
struct Declared {
    #[serde(default)]
    disks: Vec<DiskRecord>,
}

impl Record for Declared {
    const VERSION: u32 = WorkspaceRecord::VERSION;
    const OLDEST: u32 = WorkspaceRecord::OLDEST;
    const FILE: &'static str = WorkspaceRecord::FILE;
}

impl StateDir {
    /// The workspaces that declare each volume, in order. A record that cannot be read is an error: what it needs must not be removed.
    pub fn volume_users(&self) -> Result<BTreeMap<VolumeName, Vec<Name>>, Error> {
        let mut users: BTreeMap<VolumeName, Vec<Name>> = BTreeMap::new();
        for name in self.names()? {
            // It went while this looked, or has not got as far as a record.
            let Ok(workspace) = self.find(&name) else { continue };
            let Some(declared) = Declared::load(workspace.path())? else { continue };
            for disk in declared.disks {
                if let DiskSource::Volume { name: volume } = disk.source {
                    users.entry(volume).or_default().push(name.clone());
                }
            }
        }
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(state: &StateDir, name: &str, record: &str) {
        let workspace = state.create(&Name::new(name).unwrap()).unwrap();
        std::fs::write(workspace.path().join(WorkspaceRecord::FILE), record).unwrap();
    }

    #[test]
    fn workspaces_are_told_by_the_volumes_they_declare() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let disk = |source: &str| format!(r#"{{"name":"d","source":{source},"mountpoint":"/d","mode":"rw"}}"#);
        let volume = disk(r#"{"kind":"volume","name":"data"}"#);
        let file = disk(r#"{"kind":"disk","path":"/tmp/x"}"#);
        let version = WorkspaceRecord::VERSION;
        let record =
            |disks: &[&str]| format!(r#"{{"version":{version},"record":{{"other":1,"disks":[{}]}}}}"#, disks.join(","));
        write(&state, "one", &record(&[&file, &volume]));
        write(&state, "two", &record(&[&volume]));
        write(&state, "three", &record(&[]));
        let users = state.volume_users().unwrap();
        let data = VolumeName::new("data").unwrap();
        assert_eq!(users, BTreeMap::from([(data, vec![Name::new("one").unwrap(), Name::new("two").unwrap()])]));
        write(&state, "damaged", "{");
        assert!(matches!(state.volume_users(), Err(Error::BadRecord { .. })));
    }
}
