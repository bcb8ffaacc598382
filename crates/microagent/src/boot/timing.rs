//! How a machine came up, and where the time went.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How a machine came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It was booted.
    #[default]
    Cold,
    /// A machine was booted, frozen as a template, and this one restored from it.
    MadeTemplate,
    /// It was restored from a template that was there.
    Warm,
    /// It went on from a snapshot.
    Snapshot,
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Start::Cold => "cold",
            Start::MadeTemplate => "made_template",
            Start::Warm => "warm",
            Start::Snapshot => "snapshot",
        })
    }
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

/// Books time to phases.
pub(crate) struct Stopwatch {
    started: Instant,
    lap: Instant,
    timing: Timing,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        let now = Instant::now();
        Stopwatch { started: now, lap: now, timing: Timing::default() }
    }

    /// Books what has passed since the last lap to one phase.
    pub(crate) fn lap(&mut self, phase: impl FnOnce(&mut Timing) -> &mut f64) {
        let now = Instant::now();
        let phase = phase(&mut self.timing);
        *phase = round(*phase + milliseconds(now - self.lap));
        self.lap = now;
    }

    pub(crate) fn timing(&self) -> Timing {
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
