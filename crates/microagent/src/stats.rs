//! What a workspace that runs uses.

use crate::perf::{Memory, processor_time};
use crate::{Client, Connection, Error};
use microagent_protocol::Stats;
use microagent_protocol::supervisor::{Answer, Ask, Usage};
use microagent_state::Name;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What a workspace used at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct WorkspaceStats {
    /// Name of the workspace.
    pub workspace: Name,
    /// When.
    pub sampled_at: jiff::Timestamp,
    /// Process id of its engine.
    pub pid: u32,
    /// Host memory of the engine in bytes: its proportional share, where several machines share some.
    pub memory_bytes: u64,
    /// Processor time of the engine since the sample before, in percent of one processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// Bytes the engine has read from storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_read_bytes: Option<u64>,
    /// Bytes it has written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_write_bytes: Option<u64>,
    /// By the guest's own account.
    pub guest: Stats,
}

impl Client {
    /// What a workspace that runs uses now.
    pub fn stats(&self, name: &Name) -> Result<WorkspaceStats, Error> {
        Ok(self.sample(name)?.0)
    }

    /// Samples what a workspace uses until it ends, or `sample` says that it is enough.
    pub fn follow_stats(
        &self,
        name: &Name,
        interval: Duration,
        mut sample: impl FnMut(&WorkspaceStats) -> bool,
    ) -> Result<(), Error> {
        let watch = self.state().find(name)?.watch()?;
        let mut before: Option<(Instant, Duration)> = None;
        loop {
            let (mut stats, used) = match self.sample(name) {
                Ok(taken) => taken,
                Err(Error::WrongState { .. } | Error::SupervisorLost { .. }) if before.is_some() => return Ok(()),
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            stats.cpu_percent = before.map(|(then, used_then)| {
                used.saturating_sub(used_then).as_secs_f64() / (now - then).as_secs_f64() * 100.0
            });
            if !sample(&stats) {
                return Ok(());
            }
            before = Some((now, used));
            // Its end is noticed when it happens, and not a sample later.
            while watch.changed(Some(now + interval))? {
                if !self.state().find(name)?.status()?.phase.is_live() {
                    return Ok(());
                }
            }
        }
    }

    fn sample(&self, name: &Name) -> Result<(WorkspaceStats, Duration), Error> {
        let connection = self.connect(name)?;
        let Usage { guest, pid } = match connection.ask(&Ask::Stats, None)? {
            Answer::Stats(usage) => usage,
            other => return Err(Connection::unexpected(&other)),
        };
        let used = processor_time(pid)?;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let stats = WorkspaceStats {
            workspace: name.clone(),
            sampled_at: jiff::Timestamp::now(),
            pid,
            memory_bytes: Memory::of(pid)?.pss_kib << 10,
            cpu_percent: None,
            io_read_bytes: field("read_bytes:"),
            io_write_bytes: field("write_bytes:"),
            guest,
        };
        Ok((stats, used))
    }
}
