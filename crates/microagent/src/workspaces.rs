//! Looking at workspaces, and removing them.

use crate::{Client, Error};
use microagent_state::{Collected, Name, Phase, ResultRecord};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Most bytes of each log that are read.
const LOG_LIMIT: u64 = 64 << 20;

/// One line of `microagent list`.
#[derive(Clone, Debug, Serialize)]
pub struct WorkspaceRow {
    /// Name of the workspace.
    pub name: Name,
    /// Where it is in its life.
    pub state: Phase,
    /// What its processors run on.
    pub backend: String,
    /// Name of the profile.
    pub profile: String,
    /// Network mode.
    pub network: String,
    /// Restart policy.
    pub restart: String,
    /// The image.
    pub image: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
}

/// What a workspace said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Logs {
    /// The guest kernel's console.
    #[serde(rename = "logs")]
    pub console: String,
    /// What its command wrote to standard output, as far as it was kept.
    pub stdout: String,
    /// What its command wrote to standard error, as far as it was kept.
    pub stderr: String,
}

/// What is done about a workspace that is to be deleted and is not at rest.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Halt one that runs.
    pub halt: bool,
    /// Kill one that runs, and delete one that is quarantined.
    pub force: bool,
    /// Why, for the events of one that runs.
    pub reason: Option<String>,
}

/// What became of a request to delete.
#[derive(Clone, Debug, Serialize)]
pub struct Deleted {
    /// Name of the workspace.
    pub workspace: Name,
    /// Whether it was there.
    pub deleted: bool,
    /// How many snapshots went with it.
    #[serde(skip_serializing_if = "is_none")]
    pub snapshots: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// What [`Client::collect_garbage`] did.
#[derive(Clone, Debug, Serialize)]
pub struct Garbage {
    /// In workspaces.
    #[serde(flatten)]
    pub workspaces: Collected,
    /// Bytes of images and parts of images that were removed.
    pub image_bytes: u64,
    /// Unfinished installations of kernels that were removed.
    pub kernels: Vec<PathBuf>,
    /// Bytes of templates that were not finished, and of RAM of templates that are no more.
    pub template_bytes: u64,
    /// Bytes of what machines were restored from, of snapshots that are no more.
    pub capture_bytes: u64,
}

impl Garbage {
    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.workspaces == Collected::default()
            && self.image_bytes == 0
            && self.kernels.is_empty()
            && self.template_bytes == 0
            && self.capture_bytes == 0
    }
}

impl Client {
    /// All workspaces, by name. One whose record cannot be read is not among them; [`Client::status`] says why.
    pub fn list(&self) -> Result<Vec<WorkspaceRow>, Error> {
        let mut rows = Vec::new();
        for name in self.state().names()? {
            // A workspace may go while the list is made.
            let Ok(record) = self.state().find(&name).and_then(|workspace| workspace.status()) else { continue };
            rows.push(WorkspaceRow {
                name,
                state: record.phase,
                backend: record.backend,
                profile: record.profile,
                network: record.network,
                restart: record.restart,
                image: record.image,
                created_at: record.created_at,
            });
        }
        Ok(rows)
    }

    /// How the last command of a workspace ended; `None` when none has.
    pub fn result(&self, name: &Name) -> Result<Option<ResultRecord>, Error> {
        Ok(self.state().find(name)?.result()?)
    }

    /// What a workspace said.
    pub fn logs(&self, name: &Name) -> Result<Logs, Error> {
        let workspace = self.state().find(name)?;
        Ok(Logs {
            console: read_log(&workspace.serial_log())?,
            stdout: read_log(&workspace.stdout_log())?,
            stderr: read_log(&workspace.stderr_log())?,
        })
    }

    /// Removes a workspace with its disk and its snapshots; what went on from those stays. One that is not there is no error; one that runs is, unless `options` say how to end it.
    pub fn delete(&self, name: &Name, options: &DeleteOptions) -> Result<Deleted, Error> {
        let report = |deleted| Deleted { workspace: name.clone(), deleted, snapshots: 0 };
        let state = match self.state().find(name).and_then(|workspace| workspace.status()) {
            // A run and the set-up of a new workspace end by themselves or with their process: nobody there takes orders.
            Ok(record) if record.phase.is_live() && record.session.is_none() => {
                return Err(microagent_state::Error::InUse { name: name.to_string() }.into());
            }
            Ok(record) => Some(record.phase),
            // One that was never finished has no record, and is in the way of others of its name.
            Err(microagent_state::Error::NotFound { .. }) if self.state().find(name).is_ok() => None,
            Err(microagent_state::Error::NotFound { .. }) => return Ok(report(false)),
            // One whose record is damaged is nobody's any more: whether somebody runs it, the lease tells.
            Err(microagent_state::Error::BadRecord { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match state {
            Some(state) if state.is_live() && options.force => {
                let reason = options.reason.clone().unwrap_or_else(|| "to be deleted".to_owned());
                self.kill(name, reason)?;
            }
            Some(state) if state.is_live() && options.halt => {
                self.halt(name, options.reason.clone().or_else(|| Some("to be deleted".to_owned())))?;
            }
            Some(state) if state.is_live() || (state == Phase::Quarantined && !options.force) => {
                return Err(Error::WrongState { name: name.to_string(), state, doing: "delete" });
            }
            _ => {}
        }
        match self.state().acquire(name) {
            Ok(workspace) => {
                // Somebody may have been quicker, before the lease was ours.
                if !options.force && workspace.record().is_ok_and(|record| record.phase == Phase::Quarantined) {
                    let state = Phase::Quarantined;
                    return Err(Error::WrongState { name: name.to_string(), state, doing: "delete" });
                }
                let snapshots = self.leaving(name);
                workspace.remove()?;
                let report = Deleted { snapshots: snapshots.count, ..report(true) };
                snapshots.left();
                Ok(report)
            }
            Err(microagent_state::Error::NotFound { .. }) => Ok(report(false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Heals what interrupted processes left behind, in workspaces, snapshots, images, kernels and templates. What fails in one does not keep the
    /// others from it.
    pub fn collect_garbage(&self) -> Result<Garbage, Error> {
        let workspaces = self.state().collect_garbage();
        let image_bytes = self.images().collect_garbage();
        let kernels = self.kernels().collect_garbage().map_err(microagent_machine::Error::from);
        let template_bytes = self.template_store().sweep();
        let capture_bytes = self.sweep_captures();
        Ok(Garbage {
            workspaces: workspaces?,
            image_bytes: image_bytes?,
            kernels: kernels?,
            template_bytes,
            capture_bytes: capture_bytes?,
        })
    }
}

/// The end of a log; empty when there is none. The console is the guest's to write, so it is bounded here.
fn read_log(path: &Path) -> Result<String, Error> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_LIMIT)))?;
        let mut bytes = Vec::new();
        file.take(LOG_LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Err(error) if std::io::Error::kind(&error) == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => Ok(read.map_err(microagent_state::Error::io("read", path))?),
    }
}
