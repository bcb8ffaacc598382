//! Whether a workspace is still made of what it was made of.

use crate::{Client, Error, describe};
use microagent_machine::agent;
use microagent_machine::initramfs::Initramfs;
use microagent_protocol::FaultReport;
use microagent_state::{Verification, Workspace, WorkspaceRecord};
use serde::Serialize;

/// What a workspace was made of, compared with what there is now. A divergence is a fact and no judgement: a tag that has moved on is one
/// as a disk that was exchanged is.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Nothing diverges.
    pub ok: bool,
    /// What was recorded when the workspace was made.
    pub recorded: Verification,
    /// What is different now.
    pub divergence: Vec<Divergence>,
}

/// Something that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// What: `kernel`, `agent`, `base`, `image` or `disk`.
    pub artifact: &'static str,
    /// What was recorded.
    pub expected: String,
    /// What there is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// Why that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Compares. Nothing is asked of a network, and nothing that a guest wrote is interpreted but the UUID of its disk.
pub(crate) fn verify(client: &Client, workspace: &Workspace, record: &WorkspaceRecord) -> Verified {
    let mut found = Findings::default();
    let recorded = &record.verification;
    let kernel = client.kernel(Some(&record.kernel_path));
    match &kernel {
        Ok(kernel) => found.compare("kernel", recorded.kernel.as_deref(), Some(kernel.digest.clone())),
        Err(error) => found.unknown("kernel", recorded.kernel.as_deref(), error),
    }
    if let Ok(kernel) = &kernel {
        match agent_digest(record) {
            Ok(digest) => found.compare("agent", recorded.agent.as_deref(), Some(Initramfs::key(&digest, kernel))),
            Err(error) => found.unknown("agent", recorded.agent.as_deref(), &error),
        }
    }
    let base = recorded.base.as_deref().unwrap_or(&record.image);
    if let Err(source) = std::fs::metadata(&record.base_path) {
        found.unknown("base", Some(base), &microagent_state::Error::io("find", &record.base_path)(source).into());
    }
    if let Some(digest) = &recorded.base {
        match image_digest(client, record) {
            // A name that has gone says nothing about what it meant.
            Ok(None) => {}
            Ok(actual) => found.compare("image", Some(digest), actual),
            Err(error) => found.unknown("image", Some(digest), &error),
        }
    }
    found.compare("disk", recorded.disk.as_deref(), describe::disk_uuid(&workspace.disk()));
    Verified { ok: found.0.is_empty(), recorded: recorded.clone(), divergence: found.0 }
}

/// The digest of the agent that the next start would boot.
fn agent_digest(record: &WorkspaceRecord) -> Result<String, Error> {
    let Some(path) = &record.guest_init else { return Ok(agent::digest().to_owned()) };
    let bytes =
        std::fs::read(path).map_err(|source| Error::ReadFile { option: "--guest-init", path: path.clone(), source })?;
    Ok(microagent_image::Digest::of(&bytes).hex().to_owned())
}

/// What the image's name means on this host now.
fn image_digest(client: &Client, record: &WorkspaceRecord) -> Result<Option<String>, Error> {
    let found = client.images().find(&record.image.parse()?, microagent_image::Platform::host())?;
    Ok(found.map(|image| image.manifest_digest.to_string()))
}

#[derive(Default)]
struct Findings(Vec<Divergence>);

impl Findings {
    /// What was never recorded cannot diverge.
    fn compare(&mut self, artifact: &'static str, expected: Option<&str>, actual: Option<String>) {
        if let Some(expected) = expected
            && actual.as_deref() != Some(expected)
        {
            let error = actual.is_none().then(|| "it has none".to_owned());
            self.0.push(Divergence { artifact, expected: expected.to_owned(), actual, error });
        }
    }

    fn unknown(&mut self, artifact: &'static str, expected: Option<&str>, error: &Error) {
        let error = Some(FaultReport::new(error).message);
        let expected = expected.unwrap_or_default().to_owned();
        self.0.push(Divergence { artifact, expected, actual: None, error });
    }
}
