//! What a completed run reports.

use super::output::Captured;
use microagent_protocol::Exit;
use microagent_state::{Name, Phase, Resources, ResultRecord, WorkspaceRecord};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

/// How a machine came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It was booted.
    #[default]
    Cold,
    /// A machine was booted, frozen as a template, and this one restored from it.
    MadeTemplate,
    /// It was restored from a template that was there.
    Warm,
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

/// Milliseconds spent in each phase, in order.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timing {
    /// Finding or installing kernel and initramfs.
    pub kernel_ms: f64,
    /// Finding or pulling the image and building its base.
    pub image_ms: f64,
    /// Making the workspace: record and writable disk.
    pub workspace_ms: f64,
    /// From the start of the engine process to its first word.
    pub engine_ms: f64,
    /// Until there is a guest: it boots, or is loaded from a template.
    pub guest_ms: f64,
    /// The guest becomes the machine of this run: clock, names, disks.
    pub assemble_ms: f64,
    /// Set-up steps.
    pub setup_ms: f64,
    /// The command, and the last of its output.
    pub command_ms: f64,
    /// Ending the machine and removing what was disposable.
    pub teardown_ms: f64,
    /// All of it.
    pub total_ms: f64,
}

impl Timing {
    /// Every phase by its name, in order; the last is all of them.
    pub fn phases(&self) -> [(&'static str, f64); 10] {
        [
            ("kernel", self.kernel_ms),
            ("image", self.image_ms),
            ("workspace", self.workspace_ms),
            ("engine", self.engine_ms),
            ("guest", self.guest_ms),
            ("assemble", self.assemble_ms),
            ("setup", self.setup_ms),
            ("command", self.command_ms),
            ("teardown", self.teardown_ms),
            ("total", self.total_ms),
        ]
    }
}

impl RunReport {
    pub(super) fn new(
        state_dir: &Path,
        record: &WorkspaceRecord,
        rootfs_path: PathBuf,
        result: ResultRecord,
        (start, rehearsed, can_rehearse, template_note): (Start, bool, bool, Option<String>),
        timing: Timing,
    ) -> RunReport {
        let record = record.clone();
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
pub(super) fn result(exit: &Exit, (stdout, stderr): (Captured, Captured)) -> ResultRecord {
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

/// Books time to phases.
pub(super) struct Stopwatch {
    started: Instant,
    lap: Instant,
    timing: Timing,
}

impl Stopwatch {
    pub(super) fn start() -> Stopwatch {
        let now = Instant::now();
        Stopwatch { started: now, lap: now, timing: Timing::default() }
    }

    /// Books what has passed since the last lap to one phase.
    pub(super) fn lap(&mut self, phase: impl FnOnce(&mut Timing) -> &mut f64) {
        let now = Instant::now();
        let phase = phase(&mut self.timing);
        *phase = round(*phase + milliseconds(now - self.lap));
        self.lap = now;
    }

    pub(super) fn timing(&self) -> Timing {
        Timing { total_ms: round(milliseconds(self.started.elapsed())), ..self.timing }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// To the microsecond: more digits are noise.
fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}
