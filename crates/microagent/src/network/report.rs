//! What is told about the network of a workspace, and its secrets.

use super::secrets::{self, SecretAccess};
use super::{has_network, variables};
use crate::{Client, Error, status};
use microagent_egress::{Event, Log, Mode, Policy, PolicyFile, Reason, Rules};
use microagent_gateway::address::{GATEWAY, GUEST, PREFIX};
use microagent_intercept::SwapConfig;
use microagent_protocol::FaultReport;
use microagent_secret::{Binding, Reference, Sources};
use microagent_state::{ForwardRecord, MediationRecord, Name, WorkspaceRecord};
use serde::Serialize;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the process that runs a workspace may take to say what its ports are.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What is said of a value that lies somewhere as it is.
const PLAINTEXT: &str = "its source is not encrypted at rest";

/// What [`Client::network`] tells.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkReport {
    /// Name of the workspace.
    pub workspace: Name,
    /// Network mode.
    pub mode: String,
    /// Address of the guest, with the length of its network's prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The resolver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Ipv4Addr>,
    /// Ports of the host that lead into it; those that are open, while it runs.
    pub forwards: Vec<ForwardRecord>,
    /// What may leave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Rules>,
    /// Whether connections to allowed hosts are looked into.
    pub intercepts: bool,
    /// Names of the credentials that are put into its requests.
    pub credentials: Vec<String>,
    /// Services of the host that it reaches.
    pub mediations: Vec<MediationRecord>,
    /// Whether it runs.
    pub running: bool,
}

/// What [`Client::check_secrets`] found of one secret.
#[derive(Clone, Debug, Serialize)]
pub struct SecretCheck {
    /// Its name.
    pub name: String,
    /// Whether it can be had.
    pub ok: bool,
    /// Where its value comes from.
    pub source: String,
    /// How long that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// What is to be said about it all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<&'static str>,
    /// Why it cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What [`replay`](EgressReplay::new) found.
#[derive(Clone, Debug, Serialize)]
pub struct EgressReplay {
    /// Attempts that would be allowed.
    pub allowed: usize,
    /// Attempts that would be denied.
    pub denied: usize,
    /// Lines of the record that could not be read.
    pub passed_over: u64,
    /// Each of them.
    pub lines: Vec<ReplayLine>,
}

/// One attempt, and what would become of it.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayLine {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Why it would be denied; absent if it would be allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_deny: Option<Reason>,
    /// Whether that is otherwise than it was.
    pub differs: bool,
}

impl EgressReplay {
    /// Holds the record of egress in `log` against the policy file in `policy`, in `mode`.
    pub fn new(policy: &Path, log: &Path, mode: Mode) -> Result<EgressReplay, Error> {
        let mut rules = Rules { mode, ..Rules::default() };
        PolicyFile::load(policy)?.add_to(&mut rules);
        let policy = Policy::new(rules, Vec::new())?;
        if !log.exists() {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(microagent_egress::Error::File { doing: "read", path: log.to_owned(), source }.into());
        }
        let (events, passed_over) = Log::load(log)?;
        let lines: Vec<ReplayLine> = microagent_egress::replay(&policy, &events)
            .into_iter()
            .map(|outcome| ReplayLine {
                event: outcome.event.clone(),
                would_deny: outcome.denied,
                differs: outcome.differs(),
            })
            .collect();
        let denied = lines.iter().filter(|line| line.would_deny.is_some()).count();
        Ok(EgressReplay { allowed: lines.len() - denied, denied, passed_over, lines })
    }
}

impl Client {
    /// How a workspace is connected.
    pub fn network(&self, name: &Name) -> Result<NetworkReport, Error> {
        let record = self.record(name)?;
        let connected = has_network(&record);
        let running = self
            .connect(name)
            .ok()
            .and_then(|connection| status::running(&connection, Some(Instant::now() + ANSWER_LIMIT)).ok());
        Ok(NetworkReport {
            workspace: record.name.clone(),
            address: connected.then(|| format!("{GUEST}/{PREFIX}")),
            gateway: connected.then_some(GATEWAY),
            resolver: connected.then_some(GATEWAY),
            intercepts: variables::intercepts(&record),
            credentials: swaps(&record).names(),
            // A run serves its ports itself, and has written down which they are.
            running: running.is_some() || (record.phase.is_live() && record.session.is_none()),
            forwards: running.map_or(record.forwards, |running| {
                let mapping = |text: &String| super::parse_forward(text).ok();
                running.forwards.iter().filter_map(mapping).collect()
            }),
            egress: connected.then_some(record.egress),
            mediations: record.mediations,
            mode: record.network,
        })
    }

    /// The record of a workspace's egress from byte `offset` on, and the offset to go on from.
    pub fn egress(&self, name: &Name, offset: u64) -> Result<(Vec<Event>, u64), Error> {
        let workspace = self.state().find(name)?;
        Ok(Log::read(&workspace.egress_log(), offset)?)
    }

    /// The smallest policy that would have allowed what a workspace attempted, as a commented policy file.
    pub fn learn_egress(&self, name: &Name) -> Result<String, Error> {
        let (events, _) = self.egress(name, 0)?;
        Ok(microagent_egress::suggest(&events, &swaps(&self.record(name)?).hosts()))
    }

    /// Whether each secret of a workspace can be had now, and each that its credentials are made of. No value is kept or shown.
    pub fn check_secrets(&self, name: &Name) -> Result<Vec<SecretCheck>, Error> {
        let record = self.record(name)?;
        let swapped = check_swaps(&swaps(&record));
        let record = record.secrets;
        let both = record.files.iter().chain(&record.on_demand);
        let mut checks = both
            .map(|(name, reference)| Ok(SecretCheck::new(name, &reference.parse()?)))
            .collect::<Result<Vec<_>, Error>>()?;
        for path in &record.env_files {
            let error = microagent_secret::dotenv::load(path).err().map(|error| FaultReport::new(&error).message);
            let (name, source) = (path.display().to_string(), format!("dotenv:{}", path.display()));
            let (ok, warning) = (error.is_none(), Some(PLAINTEXT));
            checks.push(SecretCheck { name, ok, source, bytes: None, warning, error });
        }
        checks.extend(swapped);
        Ok(checks)
    }

    /// Who was given which secret of a workspace, where that is written down.
    pub fn audit_secrets(&self, name: &Name) -> Result<Vec<SecretAccess>, Error> {
        secrets::read(&self.state().find(name)?.secrets_log())
    }
}

/// Whether what the credentials are made of can be had, by the credential's name.
fn check_swaps(swaps: &SwapConfig) -> Vec<SecretCheck> {
    swaps.named_references().map(|(name, reference)| SecretCheck::new(name, reference)).collect()
}

fn swaps(record: &WorkspaceRecord) -> SwapConfig {
    serde_json::from_value(record.swaps.clone()).unwrap_or_default()
}

impl SecretCheck {
    /// Whether the value that a binding names can be had now.
    pub fn of(binding: &Binding) -> SecretCheck {
        SecretCheck::new(binding.name.as_str(), &binding.reference)
    }

    fn new(name: &str, reference: &Reference) -> SecretCheck {
        let found = Sources::of_process().resolve(reference);
        SecretCheck {
            name: name.to_owned(),
            ok: found.is_ok(),
            source: reference.to_string(),
            bytes: found.as_ref().ok().map(|value| value.expose().len()),
            warning: reference.is_plaintext().then_some(PLAINTEXT),
            error: found.err().map(|error| FaultReport::new(&error).message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_credential_is_made_of_is_checked_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let swaps = SwapConfig::provider(&format!("openai=file:{}", path.display())).unwrap();
        let check = || check_swaps(&swaps).into_iter().map(|check| (check.name, check.ok)).collect::<Vec<_>>();
        assert_eq!(check(), [("openai".to_owned(), false)]);
        std::fs::write(&path, "sk-1").unwrap();
        assert_eq!(check(), [("openai".to_owned(), true)]);
    }
}
