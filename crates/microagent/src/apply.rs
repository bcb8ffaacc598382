//! Making a workspace what its file says, as far as that is possible without making another one.
//!
//! Everything a file gives is compared with the record. What may change depends on whether the workspace runs: at rest, whatever takes
//! effect at the next start; while it runs, only what concerns neither its machine nor what runs in it. One thing that cannot change, and
//! nothing does.

use crate::describe;
use crate::network::has_network;
use crate::plan::Plan;
use crate::spec::{EgressKeys, NetworkMode, WorkspaceSpec};
use crate::{Client, Connection, CreateOptions, Error, FileSpec, PlannedCommand, Profile};
use microagent_image::{ImageConfig, Platform};
use microagent_protocol::supervisor::{Amendment, Answer, Ask, Because};
use microagent_state::{DiskRecord, DiskSource, Name, Phase, Resources, WorkspaceRecord};
use serde::Serialize;
use std::collections::BTreeMap;

const AT_CREATE: &str = "that is decided when a workspace is made";
const AT_REST: &str = "it takes effect at a start, and the workspace is not at rest";
const BY_RESIZE: &str = "a disk is made larger with `microagent resize`";

/// What [`Client::apply`] changed, or would change.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// Name of the workspace.
    pub workspace: Name,
    /// Where it is in its life.
    pub state: Phase,
    /// What is different, in the order of the record.
    pub changes: Vec<AppliedChange>,
    /// Whether it was changed, and not only compared.
    pub applied: bool,
}

/// One thing that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppliedChange {
    /// The key.
    pub field: &'static str,
    /// What it was.
    pub from: String,
    /// What it is.
    pub to: String,
}

impl Client {
    /// Makes a workspace what `spec` says. What the file does not give stays as it is; environment and outputs are added to, by key. With
    /// `dry_run` nothing is changed.
    pub fn apply(&self, name: &Name, spec: &WorkspaceSpec, dry_run: bool) -> Result<Applied, Error> {
        let record = self.record(name)?;
        let wanted = Wanted::new(self, spec, &record)?;
        let changes = wanted.compare(&record)?;
        let applied = !dry_run && !changes.is_empty();
        let report = |state| Applied { workspace: name.clone(), state, changes: changes.clone(), applied };
        if !applied {
            return Ok(report(record.phase));
        }
        let fields: Vec<&str> = changes.iter().map(|change| change.field).collect();
        let reason = Some(format!("changed {}", fields.join(", ")));
        if record.phase.is_live() {
            self.amend_live(name, wanted.amendment(), reason)?;
            return Ok(report(record.phase));
        }
        self.at_rest(name, |workspace, record| {
            // It may have been started and changed since it was looked at.
            wanted.compare(record)?;
            wanted.enter(record);
            record.updated_at = jiff::Timestamp::now();
            workspace.store(record)?;
            workspace.note(record, "applied", self.cause(reason))?;
            Ok(report(record.phase))
        })
    }

    fn amend_live(&self, name: &Name, amendment: Amendment, reason: Option<String>) -> Result<(), Error> {
        let connection = self.connect(name)?;
        let cause = self.cause(reason);
        let because = Because { actor: cause.actor, reason: cause.reason, correlation_id: cause.correlation_id };
        match connection.ask(&Ask::Amend { amendment: Box::new(amendment), because }, None)? {
            Answer::Done => Ok(()),
            other => Err(Connection::unexpected(&other)),
        }
    }
}

/// Enters what can be changed at any time.
pub(crate) fn amend(record: &mut WorkspaceRecord, amendment: Amendment) {
    let Amendment { restart, health, outputs } = amendment;
    if let Some(restart) = restart {
        record.restart = restart;
    }
    if let Some(health) = health {
        record.health = Some(health);
    }
    if let Some(outputs) = outputs {
        record.outputs = outputs;
    }
}

/// When something can change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    /// While the workspace runs, too.
    Always,
    /// While it is at rest.
    AtRest,
    /// Never, for that reason.
    Never(&'static str),
}

/// A record as the file wants it.
struct Wanted(WorkspaceRecord);

impl Wanted {
    /// The record there is, with what the file gives.
    fn new(client: &Client, spec: &WorkspaceSpec, record: &WorkspaceRecord) -> Result<Wanted, Error> {
        let mut options = CreateOptions::new(record.image.as_str());
        let workspace = &mut options.workspace;
        workspace.name = Some(record.name.to_string());
        workspace.hostname = Some(record.hostname.clone());
        workspace.profile.clone_from(&record.profile);
        workspace.restart.clone_from(&record.restart);
        workspace.shell.clone_from(&record.shell);
        workspace.role.clone_from(&record.role);
        workspace.env.clone_from(&record.env);
        workspace.network.mode = if has_network(record) { NetworkMode::User } else { NetworkMode::Isolated };
        if has_network(record) {
            workspace.network.egress.mode = record.egress.mode;
        }
        workspace.outputs.clone_from(&record.outputs);
        if record.image_digest.is_empty() && spec.image.is_none() {
            workspace.rootfs = Some(record.base_path.clone());
        }
        spec.apply(&mut options)?;
        let asked = &options.workspace;
        let plan = Plan::of_create(&options)?;

        let mut wanted = record.clone();
        wanted.name = plan.workspace.clone();
        if spec.image.is_some() || spec.rootfs.is_some() {
            let rootfs = plan.rootfs.as_ref().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
            let image = plan.image.as_ref().map(ToString::to_string);
            wanted.image = image.or(rootfs.map(|path| path.display().to_string())).unwrap_or_default();
        }
        if let Some(kernel) = &plan.kernel {
            wanted.kernel_path = client.kernel(Some(kernel))?.image;
        }
        let profile = Profile::named(&asked.profile)?;
        if spec.profile.is_some() && record.profile != profile.name {
            // Its disk is what it is; only a size that is asked for by number is compared.
            wanted.resources = Resources { size_mib: record.resources.size_mib, ..plan.resources };
            profile.name.clone_into(&mut wanted.profile);
        }
        let resources = &spec.resources;
        wanted.resources.memory_mib = resources.memory_mib.unwrap_or(wanted.resources.memory_mib);
        wanted.resources.cpu_count = resources.cpu_count.unwrap_or(wanted.resources.cpu_count);
        wanted.resources.size_mib = resources.size_mib.unwrap_or(wanted.resources.size_mib);
        wanted.restart.clone_from(&plan.restart);
        wanted.hostname.clone_from(&plan.hostname);
        wanted.shell.clone_from(&asked.shell);
        wanted.role.clone_from(&plan.role);
        wanted.env.clone_from(&plan.env);
        wanted.outputs.clone_from(&plan.outputs);
        if spec.setup.is_some() || !spec.setup_files.is_empty() {
            wanted.setup.clone_from(&plan.setup);
        }
        if !spec.files.is_empty() {
            wanted.files = plan.files.iter().map(FileSpec::record).collect();
        }
        if !plan.disks.is_empty() {
            wanted.disks.clone_from(&plan.disks);
        }
        if let Some(command) = &plan.service {
            let config = image_config(client, record, command)?;
            wanted.service = Some(plan.argv(command, &config)?);
        }
        if spec.network.mode.is_some() {
            plan.network.clone_into(&mut wanted.network);
        }
        if spec.network.forwards.is_some() {
            wanted.forwards.clone_from(&plan.forwards);
        }
        if spec.egress != EgressKeys::default() {
            // What a file lists takes the place of what was listed: a list that only ever grows cannot be made stricter.
            wanted.egress = plan.egress.clone().unwrap_or_default();
            wanted.swaps = describe::swaps(&plan);
        }
        if spec.mediation.is_some() {
            wanted.mediations.clone_from(&plan.mediations);
        }
        if !plan.secrets.is_empty() {
            wanted.secrets.clone_from(&plan.secrets);
        }
        if let Some(workdir) = &asked.workdir {
            wanted.workdir.clone_from(workdir);
        }
        if let Some(user) = &asked.user {
            wanted.user.clone_from(user);
        }
        if let Some(ttl) = asked.ttl {
            wanted.ttl_seconds = Some(ttl.as_secs().max(1));
        }
        if asked.health.is_some() {
            wanted.health.clone_from(&asked.health);
        }
        Ok(Wanted(wanted))
    }

    /// What is different. An error names the first thing that cannot change now.
    fn compare(&self, was: &WorkspaceRecord) -> Result<Vec<AppliedChange>, Error> {
        if was.phase == Phase::Quarantined {
            return Err(Error::WrongState { name: was.name.to_string(), state: was.phase, doing: "change" });
        }
        let before = rows(was);
        let mut changes = Vec::new();
        for ((field, may, from), (.., to)) in before.into_iter().zip(rows(&self.0)) {
            if from == to {
                continue;
            }
            let reason = match may {
                May::Never(reason) => reason,
                May::AtRest if was.phase.is_live() => AT_REST,
                May::AtRest | May::Always => {
                    changes.push(AppliedChange { field, from, to });
                    continue;
                }
            };
            return Err(Error::CannotApply { name: was.name.to_string(), field, from, to, reason });
        }
        Ok(changes)
    }

    /// What can be changed while the workspace runs.
    fn amendment(&self) -> Amendment {
        let WorkspaceRecord { restart, health, outputs, .. } = &self.0;
        Amendment { restart: Some(restart.clone()), health: health.clone(), outputs: Some(outputs.clone()) }
    }

    /// Enters everything that can change at rest.
    fn enter(&self, record: &mut WorkspaceRecord) {
        amend(record, self.amendment());
        let wanted = self.0.clone();
        record.profile = wanted.profile;
        record.resources = Resources { size_mib: record.resources.size_mib, ..wanted.resources };
        record.service = wanted.service;
        record.env = wanted.env;
        record.hostname = wanted.hostname;
        record.shell = wanted.shell;
        record.role = wanted.role;
        record.network = wanted.network;
        record.forwards = wanted.forwards;
        record.egress = wanted.egress;
        record.swaps = wanted.swaps;
        record.mediations = wanted.mediations;
        record.secrets = wanted.secrets;
        record.workdir = wanted.workdir;
        record.user = wanted.user;
        record.ttl_seconds = wanted.ttl_seconds;
    }
}

/// What there is to compare, as text, and when it can change.
fn rows(record: &WorkspaceRecord) -> [(&'static str, May, String); 26] {
    let created = May::Never(AT_CREATE);
    let size = record.resources;
    [
        ("name", created, record.name.to_string()),
        ("image", created, record.image.clone()),
        ("kernel", created, show(&record.kernel_path)),
        ("setup", created, show(&record.setup)),
        ("files", created, show(&record.files)),
        ("disks", created, show(&record.disks.iter().map(declared).collect::<Vec<_>>())),
        ("sizeMiB", May::Never(BY_RESIZE), show(&size.size_mib)),
        ("profile", May::AtRest, record.profile.clone()),
        ("memoryMiB", May::AtRest, show(&size.memory_mib)),
        ("cpuCount", May::AtRest, show(&size.cpu_count)),
        ("service", May::AtRest, show(&record.service)),
        ("env", May::AtRest, variables(&record.env)),
        ("hostname", May::AtRest, record.hostname.clone()),
        ("shell", May::AtRest, record.shell.clone()),
        ("role", May::AtRest, record.role.clone()),
        ("network", May::AtRest, record.network.clone()),
        ("forwards", May::AtRest, show(&record.forwards)),
        ("egress", May::AtRest, show(&(&record.egress, &record.swaps))),
        ("mediation", May::AtRest, show(&record.mediations)),
        ("secrets", May::AtRest, show(&record.secrets)),
        ("workdir", May::AtRest, record.workdir.clone()),
        ("user", May::AtRest, record.user.clone()),
        ("ttl", May::AtRest, show(&record.ttl_seconds)),
        ("restart", May::Always, record.restart.clone()),
        ("health", May::Always, show(&record.health)),
        ("outputs", May::Always, show(&record.outputs)),
    ]
}

/// The names of variables, each with a digest of its value: that may be a secret, and this ends up in logs.
fn variables(env: &BTreeMap<String, String>) -> String {
    let digest = |value: &String| microagent_image::Digest::of(value.as_bytes()).hex()[..8].to_owned();
    env.iter().map(|(name, value)| format!("{name}=({})", digest(value))).collect::<Vec<_>>().join(" ")
}

fn show(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Null) => "none".to_owned(),
        Ok(value) => value.to_string(),
        // Fields of a record have been written as JSON before.
        Err(error) => error.to_string(),
    }
}

/// A disk without what was found or made when the workspace was.
fn declared(disk: &DiskRecord) -> DiskRecord {
    let mut disk = disk.clone();
    match &mut disk.source {
        DiskSource::Disk { path } => *path = path.canonicalize().unwrap_or_else(|_| path.clone()),
        DiskSource::Bundle { path, .. } => *path = None,
        DiskSource::Volume { .. } => {}
    }
    disk
}

/// The configuration of the workspace's image, where a command needs it.
fn image_config(client: &Client, record: &WorkspaceRecord, command: &PlannedCommand) -> Result<ImageConfig, Error> {
    if matches!(command, PlannedCommand::Argv(_)) {
        return Ok(ImageConfig::default());
    }
    let found = client.images().find(&record.image.parse()?, Platform::host())?;
    match found.filter(|image| image.manifest_digest.to_string() == record.image_digest) {
        Some(image) => Ok(image.config),
        None => Err(Error::CannotApply {
            name: record.name.to_string(),
            field: "imageCommand",
            from: show(&record.service),
            to: "the image's own command".to_owned(),
            reason: "the image that the workspace was made from is not here any more",
        }),
    }
}
