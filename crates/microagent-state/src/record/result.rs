//! How the last command of a workspace ended.

use super::Record;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `result.json`, and the `result` object of `run --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultRecord {
    /// When the command started, by the guest's clock.
    pub started_at: Timestamp,
    /// When it ended.
    pub exited_at: Timestamp,
    /// Its exit status, or 128 plus the signal that killed it.
    pub exit_code: i32,
    /// The signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The guest kernel ran out of memory and killed a process while the command ran.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// What it wrote to standard output, set-up steps included; bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// `stdout` holds only the first part.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdout_truncated: bool,
    /// `stderr` holds only the first part.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stderr_truncated: bool,
}

impl Record for ResultRecord {
    const VERSION: u32 = 1;
    const FILE: &'static str = "result.json";
}
