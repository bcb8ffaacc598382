//! What a workspace declares as its results.

use super::Files;
use super::copy::{Copied, CopyOptions};
use crate::{Client, Error};
use microagent_protocol::FileKind;
use microagent_state::Name;
use serde::Serialize;
use std::path::Path;

/// What goes in and comes out of a workspace by declaration.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactList {
    /// Name of the workspace.
    pub workspace: Name,
    /// What comes out.
    pub egress: Vec<Artifact>,
}

/// A file or directory that a workspace declares as a result.
#[derive(Clone, Debug, Serialize)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Its path in the guest.
    pub path: String,
    /// What it is; absent as long as it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<FileKind>,
    /// Its size in bytes, if it is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Client {
    /// The artifacts a workspace declares, and whether they are there.
    pub fn artifacts(&self, name: &Name, options: &CopyOptions) -> Result<ArtifactList, Error> {
        let record = self.state().find(name)?.status()?;
        let mut egress = Vec::new();
        if !record.outputs.is_empty() {
            let files = Files::open(self, name, &options.interrupt)?;
            for (artifact, path) in record.outputs {
                let stat = files.find(&path, true)?;
                let size = stat.as_ref().filter(|stat| stat.kind == FileKind::File).map(|stat| stat.size);
                egress.push(Artifact { name: artifact, path, kind: stat.map(|stat| stat.kind), size });
            }
            files.close()?;
        }
        Ok(ArtifactList { workspace: name.clone(), egress })
    }

    /// Copies an artifact to the host.
    pub fn get_artifact(
        &self,
        name: &Name,
        artifact: &str,
        destination: &Path,
        options: &CopyOptions,
    ) -> Result<Copied, Error> {
        let record = self.state().find(name)?.status()?;
        let Some(path) = record.outputs.get(artifact) else {
            return Err(Error::ArtifactUnknown {
                name: name.to_string(),
                artifact: artifact.to_owned(),
                known: record.outputs.into_keys().collect(),
            });
        };
        self.copy_out(name, path, destination, &CopyOptions { follow: true, ..options.clone() })
    }
}
