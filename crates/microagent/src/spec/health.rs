//! What tells whether a workspace is well: a command in it, or a page of a server in it.

use microagent_state::{Health, HttpGet};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// What tells whether a workspace is well, by exactly one of `exec` and `httpGet`, and how often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthKeys {
    /// The command: well when it exits with 0.
    #[serde(default)]
    pub exec: Vec<String>,
    /// Path that is asked for by HTTP: well when it is answered with a status from 200 to 399.
    #[serde(default)]
    pub http_get: Option<String>,
    /// Port of the guest for that.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Seconds between two probes.
    #[serde(default = "interval")]
    pub interval_seconds: u64,
    /// Seconds a probe may take.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
    /// Failures in a row that make a workspace unwell.
    #[serde(default = "retries")]
    pub retries: u32,
    /// Seconds after a start in which failures do not count.
    #[serde(default)]
    pub start_period_seconds: u64,
}

fn interval() -> u64 {
    30
}

fn timeout() -> u64 {
    5
}

fn retries() -> u32 {
    3
}

impl HealthKeys {
    /// What is wrong with it, if anything is.
    fn mistake(&self) -> Option<&'static str> {
        let is_path = |path: &String| HttpGet { port: 1, path: path.clone() }.is_valid();
        match (&self.http_get, self.port) {
            (Some(_), _) if !self.exec.is_empty() => Some("a workspace is probed by one of `exec` and `httpGet`"),
            (None, None) if self.exec.is_empty() => Some("a workspace is probed by `exec`, or by `httpGet` and `port`"),
            (None, Some(_)) => Some("`port` is for `httpGet`, which is missing"),
            (Some(_), None | Some(0)) => Some("`httpGet` needs a `port` from 1 to 65535"),
            (Some(path), _) if !is_path(path) => {
                Some("`httpGet` is a path: it starts with `/`, and blanks and all beyond ASCII are escaped")
            }
            _ => None,
        }
    }
}

/// Reads the key, and refuses what cannot be meant.
pub(super) fn checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HealthKeys>, D::Error> {
    let health = Option::<HealthKeys>::deserialize(deserializer)?;
    match health.as_ref().and_then(HealthKeys::mistake) {
        None => Ok(health),
        Some(mistake) => Err(D::Error::custom(mistake)),
    }
}

impl From<&HealthKeys> for Health {
    fn from(health: &HealthKeys) -> Health {
        let http_get = health.http_get.clone().zip(health.port).map(|(path, port)| HttpGet { port, path });
        Health {
            exec: health.exec.clone(),
            http_get,
            interval_seconds: health.interval_seconds,
            timeout_seconds: health.timeout_seconds,
            retries: health.retries,
            start_period_seconds: health.start_period_seconds,
        }
    }
}
