//! What a crash leaves behind, and how it goes away.

use crate::record::{Record, WorkspaceRecord};
use crate::{Cause, Error, Lease, Name, Phase, StateDir, Workspace};
use microagent_protocol::FaultReport;
use serde::Serialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Prefix of a directory that is becoming a workspace.
pub(crate) const NEW_PREFIX: &str = ".new-";
/// Prefix of a directory that was a workspace. Neither prefix can start a [`Name`].
pub(crate) const DOOMED_PREFIX: &str = ".doomed-";

pub(crate) fn doomed_path(workspace: &Path) -> PathBuf {
    let name = workspace.file_name().unwrap_or_default().to_string_lossy();
    let unique = Name::generate("x");
    workspace.with_file_name(format!("{DOOMED_PREFIX}{name}-{unique}"))
}

/// What [`StateDir::collect_garbage`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Disposable or unfinished workspaces that were removed, what was left of unfinished volumes and snapshots, and unneeded layers.
    pub removed: Vec<String>,
    /// Workspaces recorded as live whose holder had died; now recorded as failed.
    pub failed: Vec<String>,
    /// Workspaces that could not be judged, with the reason; left as they are.
    pub skipped: Vec<String>,
}

impl StateDir {
    /// Heals what interrupted processes left: removes what was disposable or never finished, records the end of what was kept, and removes
    /// layers of snapshots that are not needed any more. Workspaces and snapshots that somebody holds are left alone, whatever their records
    /// say.
    pub fn collect_garbage(&self) -> Result<Collected, Error> {
        let mut collected = Collected { removed: self.sweep_volumes()?, ..Collected::default() };
        if self.workspaces().exists() {
            self.heal_workspaces(&mut collected)?;
        }
        match self.sweep_layers() {
            Ok(Some(swept)) if swept.layers > 0 => {
                collected.removed.push(format!("layers of snapshots: {} in {} bytes", swept.layers, swept.bytes));
            }
            // Somebody writes some: they go the next time.
            Ok(_) => {}
            Err(error) => collected.skip("layers of snapshots", &error),
        }
        Ok(collected)
    }

    fn heal_workspaces(&self, collected: &mut Collected) -> Result<(), Error> {
        let parent = self.workspaces();
        let sweeping = self.sweep_lock()?;
        sweeping.lock().map_err(Error::io("lock", &parent))?;
        for entry in std::fs::read_dir(&parent).map_err(Error::io("list", &parent))? {
            let entry = entry.map_err(Error::io("list", &parent))?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let outcome = match Name::new(file_name.as_str()) {
                Ok(name) => judge(name, entry.path(), collected),
                Err(_) if file_name.starts_with(NEW_PREFIX) || file_name.starts_with(DOOMED_PREFIX) => {
                    sweep(&entry.path(), &file_name, collected)
                }
                Err(_) => Ok(()),
            };
            if let Err(error) = outcome {
                collected.skip(&file_name, &error);
            }
        }
        for (path, label) in self.half_snapshots()? {
            if let Err(error) = sweep(&path, &label, collected) {
                collected.skip(&label, &error);
            }
        }
        Ok(())
    }
}

impl Collected {
    fn skip(&mut self, what: &str, error: &Error) {
        self.skipped.push(format!("{what}: {}", FaultReport::new(error).message));
    }
}

/// Removes a directory that no name leads to. Whoever made or removes it holds its lease for as long as there is one.
fn sweep(path: &Path, file_name: &str, collected: &mut Collected) -> Result<(), Error> {
    if Lease::is_held(path)? {
        return Ok(());
    }
    match std::fs::remove_dir_all(path) {
        // Its owner was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::io("remove", path)(source)),
        Ok(()) => {
            collected.removed.push(file_name.to_owned());
            Ok(())
        }
    }
}

fn judge(name: Name, path: PathBuf, collected: &mut Collected) -> Result<(), Error> {
    let Some(lease) = Lease::acquire(&path)? else { return Ok(()) };
    let workspace = Workspace::new(name, path, Some(lease));
    let label = workspace.name().to_string();
    workspace.settle_disks()?;
    match WorkspaceRecord::load(workspace.path())? {
        None => {
            workspace.remove()?;
            collected.removed.push(label);
        }
        // A copy that did not come to go on is recorded as failed, where anybody was left to do so.
        Some(record) if record.disposable && (record.phase.is_live() || is_failed_copy(&record)) => {
            workspace.remove()?;
            collected.removed.push(label);
        }
        Some(mut record) if record.phase.is_live() => {
            if workspace.heal(&mut record, Cause::of("gc"))? {
                collected.failed.push(label);
            }
        }
        Some(_) => {}
    }
    Ok(())
}

fn is_failed_copy(record: &WorkspaceRecord) -> bool {
    record.phase == Phase::Failed && record.origin.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_workspace_goes_when_its_maker_is_gone_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let making = state.create(&Name::new("half").unwrap()).unwrap();
        assert_eq!(state.collect_garbage().unwrap(), Collected::default());
        drop(making);
        assert_eq!(state.collect_garbage().unwrap().removed, ["half"]);
        assert!(state.names().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_record_is_left_alone_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let workspace = state.create(&Name::new("hurt").unwrap()).unwrap();
        std::fs::write(workspace.path().join("workspace.json"), "{").unwrap();
        drop(workspace);
        let collected = state.collect_garbage().unwrap();
        assert!(collected.skipped[0].starts_with("hurt: "), "{collected:?}");
        assert_eq!(state.names().unwrap().len(), 1);
    }

    #[test]
    fn interrupted_removal_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let workspace = state.create(&Name::new("gone").unwrap()).unwrap();
        let doomed = doomed_path(workspace.path());
        std::fs::rename(workspace.path(), &doomed).unwrap();
        drop(workspace);
        state.collect_garbage().unwrap();
        assert!(!doomed.exists());
    }
}
