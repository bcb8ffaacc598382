//! Completion: the shell asks this program, so that what exists right now can be completed.

use crate::cli::{Cli, GlobalArgs};
use crate::settings::Settings;
use clap::CommandFactory;
use clap_complete::CompletionCandidate;
use clap_complete::env::CompleteEnv;
use microagent::Client;

/// Answers the shell and ends the process, if it was the shell that asked.
pub(crate) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).complete();
}

/// The names of workspaces.
pub(crate) fn workspaces() -> Vec<CompletionCandidate> {
    let rows = client().and_then(|client| client.list().ok()).unwrap_or_default();
    rows.into_iter()
        .map(|row| {
            CompletionCandidate::new(row.name.to_string()).help(Some(format!("{} {}", row.state, row.image).into()))
        })
        .collect()
}

/// The snapshots of all workspaces, as `NAME:TAG`.
pub(crate) fn snapshots() -> Vec<CompletionCandidate> {
    let state = client().map(|client| client.state().clone());
    let manifests = state.and_then(|state| state.manifests().ok()).unwrap_or_default();
    let candidate = |manifest: microagent::SnapshotManifest| {
        let reference = format!("{}:{}", manifest.workspace, manifest.tag);
        CompletionCandidate::new(reference).help(manifest.comment.map(Into::into))
    };
    manifests.into_iter().flatten().map(candidate).collect()
}

/// What names a snapshot can begin with, or be.
pub(crate) fn workspaces_and_snapshots() -> Vec<CompletionCandidate> {
    workspaces().into_iter().chain(snapshots()).collect()
}

/// The names of local images.
pub(crate) fn images() -> Vec<CompletionCandidate> {
    let images = client().and_then(|client| client.images().list().ok()).unwrap_or_default();
    images.into_iter().map(|image| CompletionCandidate::new(image.reference.familiar())).collect()
}

/// The names of volumes.
pub(crate) fn volumes() -> Vec<CompletionCandidate> {
    let volumes = client().and_then(|client| client.volumes().ok()).unwrap_or_default();
    volumes.into_iter().map(|volume| CompletionCandidate::new(volume.name.as_str())).collect()
}

/// The names of profiles.
pub(crate) fn profiles() -> Vec<CompletionCandidate> {
    let describe =
        |profile: microagent::Profile| CompletionCandidate::new(profile.name).help(Some(profile.purpose.into()));
    microagent::Profile::ALL.into_iter().map(describe).collect()
}

/// The names of installed kernels.
pub(crate) fn kernels() -> Vec<CompletionCandidate> {
    let kernels = client().and_then(|client| client.kernels().list().ok()).unwrap_or_default();
    kernels.into_iter().map(|kernel| CompletionCandidate::new(kernel.name)).collect()
}

/// The state directory of environment and configuration: the flags of an unfinished line are not known here. A failure means that there
/// is nothing to suggest.
fn client() -> Option<Client> {
    let settings = Settings::resolve(&GlobalArgs::default()).ok()?;
    Client::open(settings.state_dir.as_deref()).ok()
}
