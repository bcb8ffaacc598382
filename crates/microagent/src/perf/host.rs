//! What the figures were measured on.

use crate::{Client, Error, RunOptions};
use microagent_machine::probe::{Host, QemuVerdict};
use serde::Serialize;
use std::thread::available_parallelism;

/// The host, and how busy it was.
#[derive(Clone, Debug, Serialize)]
pub struct PerfHost {
    /// Processors this process may use.
    pub cores: usize,
    /// What the processors call themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// Release of the host's kernel.
    pub kernel: String,
    /// Processes that wanted to run, averaged over the minute before the measurement.
    pub load_before: Option<f64>,
    /// The same, averaged over the last minute of the measurement.
    pub load_after: Option<f64>,
    /// What the guests' processors ran on.
    pub backend: String,
    /// The engine program.
    pub engine: String,
    /// Its version, as it prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
}

impl PerfHost {
    /// Looks at the host before the measurement.
    pub(super) fn before(client: &Client, options: &RunOptions) -> Result<PerfHost, Error> {
        let engine = client.engine(options.workspace.backend.as_deref())?;
        let engine_version = match Host::open(client.state().root()).qemu() {
            QemuVerdict::Found { version, .. } if engine.name() == "qemu" => Some(version),
            _ => None,
        };
        Ok(PerfHost {
            cores: available_parallelism().map_or(1, usize::from),
            processor: processor(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            load_before: load(),
            load_after: None,
            backend: engine.accelerator().backend().to_owned(),
            engine: engine.name().to_owned(),
            engine_version,
        })
    }

    /// Looks at it again afterwards.
    pub(super) fn after(self) -> PerfHost {
        PerfHost { load_after: load(), ..self }
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
