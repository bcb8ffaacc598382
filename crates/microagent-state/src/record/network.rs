//! What a workspace has to do with the world around it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A port of the host that leads into a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardRecord {
    /// Address of the host.
    pub host: IpAddr,
    /// Port of the host; 0 for one that is free at each start.
    pub host_port: u16,
    /// Port in the workspace.
    pub guest_port: u16,
}

impl ForwardRecord {
    /// Where the host listens.
    pub fn listens(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.host_port)
    }
}

impl fmt::Display for ForwardRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.listens(), self.guest_port)
    }
}

/// A service of the host that a workspace reaches, and nothing else of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediationRecord {
    /// Its number in the workspace.
    pub port: u16,
    /// `HOST:PORT` of the service.
    pub target: String,
    /// Whether the workspace starts when the service cannot be reached.
    #[serde(default)]
    pub optional: bool,
}

impl MediationRecord {
    /// Name of the socket that leads to it.
    pub fn socket(&self) -> String {
        format!("mediation-{}", self.port)
    }
}

/// Secrets a workspace is given, by reference: no value is ever on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsRecord {
    /// Those that are files in the workspace: references by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Those that are fetched when they are needed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on_demand: BTreeMap<String, String>,
    /// Files of `KEY=value` lines, each line a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_files: Vec<PathBuf>,
    /// Whether each access is written down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit: bool,
}

impl SecretsRecord {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.on_demand.is_empty() && self.env_files.is_empty()
    }
}
