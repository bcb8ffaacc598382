//! What a completed run reports.

use crate::Start;
use crate::boot::{Arrival, Timing};
use crate::commands::streams::Captured;
use microagent_egress::Summary;
use microagent_protocol::Exit;
use microagent_state::{ForwardRecord, Name, Phase, Resources, ResultRecord, WorkspaceRecord};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A run that completed, whatever its command's exit code. Its JSON is what `microagent --json run` prints.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Name of the workspace.
    pub workspace: Name,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Whether the workspace is still there.
    pub kept: bool,
    /// Restart policy.
    pub restart: String,
    /// Name of the profile.
    pub profile: String,
    /// Network mode.
    pub network: String,
    /// Size of the machine.
    pub resources: Resources,
    /// The image.
    pub image: ImageSummary,
    /// The workspace's writable disk; gone unless kept.
    pub rootfs_path: PathBuf,
    /// The image's read-only base under it.
    pub base_path: PathBuf,
    /// The kernel that was booted.
    pub kernel_path: PathBuf,
    /// Where the workspace ended.
    pub final_state: Phase,
    /// How the command ended.
    pub result: ResultRecord,
    /// What ran it.
    pub response: Response,
    /// What went out, and what was not let out, where the machine had a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Summary>,
    /// Ports of the host that led into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ForwardRecord>,
    /// Why no policy was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learn_note: Option<String>,
    /// How the machine came up.
    pub start: Start,
    /// Whether it went on from an engine that had the guest's code translated.
    pub rehearsed: bool,
    /// Whether there can be such an engine.
    #[serde(skip)]
    pub can_rehearse: bool,
    /// What kept a template from being made or used, or made it less than it could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_note: Option<String>,
    /// Where the time went.
    pub timing: Timing,
}

/// Which image it was.
#[derive(Clone, Debug, Serialize)]
pub struct ImageSummary {
    /// As it was asked for, in full.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: String,
}

/// What ran the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Response {
    /// The run completed.
    pub ok: bool,
    /// What the processors ran on.
    pub backend: String,
    /// The engine program.
    pub engine: String,
}

impl RunReport {
    pub(super) fn new(
        state_dir: &Path,
        record: &WorkspaceRecord,
        rootfs_path: PathBuf,
        result: ResultRecord,
        arrival: Arrival,
        timing: Timing,
    ) -> RunReport {
        let record = record.clone();
        let Arrival { start, rehearsed, can_rehearse, template_note } = arrival;
        RunReport {
            workspace: record.name,
            state_dir: state_dir.to_owned(),
            kept: !record.disposable,
            restart: record.restart,
            profile: record.profile,
            network: record.network,
            resources: record.resources,
            image: ImageSummary { reference: record.image, digest: record.image_digest },
            rootfs_path,
            base_path: record.base_path,
            kernel_path: record.kernel_path,
            final_state: record.phase,
            result,
            egress: None,
            ports: Vec::new(),
            learn_note: None,
            response: Response { ok: true, backend: record.backend, engine: record.engine },
            start,
            rehearsed,
            can_rehearse,
            template_note,
            timing,
        }
    }
}

/// How the command ended, written down.
pub(crate) fn result(exit: &Exit, (stdout, stderr): (Captured, Captured)) -> ResultRecord {
    // The guest says when; one that says nonsense gets the epoch.
    let at = |nanoseconds: u64| jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
    ResultRecord {
        started_at: at(exit.started_ns),
        exited_at: at(exit.exited_ns),
        exit_code: exit.status(),
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        stdout: stdout.text,
        stderr: stderr.text,
        stdout_truncated: stdout.truncated,
        stderr_truncated: stderr.truncated,
    }
}
