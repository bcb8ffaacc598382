//! Looking at workspaces, and removing them.

use crate::{Client, Error};
use microagent_state::{Collected, Name, Phase, ResultRecord, WorkspaceRecord};
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

/// A workspace as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct WorkspaceStatus {
    /// What it is and what became of it.
    #[serde(flatten)]
    pub record: WorkspaceRecord,
    /// Its directory.
    pub path: PathBuf,
    /// How its last command ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultRecord>,
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

/// What became of a request to delete.
#[derive(Clone, Debug, Serialize)]
pub struct Deleted {
    /// Name of the workspace.
    pub workspace: Name,
    /// Whether it was there.
    pub deleted: bool,
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
}

impl Garbage {
    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.workspaces == Collected::default()
            && self.image_bytes == 0
            && self.kernels.is_empty()
            && self.template_bytes == 0
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

    /// Everything known of one workspace.
    pub fn status(&self, name: &Name) -> Result<WorkspaceStatus, Error> {
        let workspace = self.state().find(name)?;
        Ok(WorkspaceStatus {
            record: workspace.status()?,
            path: workspace.path().to_owned(),
            result: workspace.result()?,
        })
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

    /// Removes a workspace and its disk. One that is not there is no error; one that is running is.
    pub fn delete(&self, name: &Name) -> Result<Deleted, Error> {
        let deleted = match self.state().acquire(name) {
            Ok(workspace) => workspace.remove().map(|()| true)?,
            Err(microagent_state::Error::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Deleted { workspace: name.clone(), deleted })
    }

    /// Heals what interrupted processes left behind, in workspaces, images, kernels and templates. What fails in one does not keep the
    /// others from it.
    pub fn collect_garbage(&self) -> Result<Garbage, Error> {
        let workspaces = self.state().collect_garbage();
        let image_bytes = self.images().collect_garbage();
        let kernels = self.kernels().collect_garbage().map_err(microagent_machine::Error::from);
        let template_bytes = self.template_store().sweep();
        Ok(Garbage { workspaces: workspaces?, image_bytes: image_bytes?, kernels: kernels?, template_bytes })
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
