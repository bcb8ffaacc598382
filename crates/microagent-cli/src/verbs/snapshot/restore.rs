//! `microagent snapshot restore`

use super::target::Target;
use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::signals::Signals;
use crate::verbs::transition::agree;
use microagent::{Client, Name, Phase, SnapshotKind, SnapshotManifest, SnapshotRef, StartOptions, StartReport};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent snapshot restore research before-upgrade
  microagent snapshot restore research:before-upgrade --yes
  microagent snapshot restore research before-upgrade --disk-only";

/// Return to a snapshot
///
/// The workspace has to be at rest. What was written to its disks since is lost, and its settings are those of then, but for its restart
/// policy. With a snapshot that was taken while it ran, it runs
/// afterwards, with the processes of then, as after `start --from-snapshot`; with one of its disks it stays at rest.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Put back the disks alone, and start nothing
    #[arg(long)]
    disk_only: bool,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    yes: bool,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let reference = self.target.reference()?;
        let client = context.client()?;
        // Nobody is asked about what cannot be done.
        client.check_restorable(&reference.workspace)?;
        let manifest = if self.disk_only {
            client.snapshot_manifest(&reference)?
        } else {
            client.inspect_snapshot(&reference)?.manifest
        };
        if manifest.kind == SnapshotKind::Forensic {
            return Err(microagent::Error::SnapshotForensic { snapshot: reference.to_string() }.into());
        }
        if !self.yes {
            agree(context.format(), "snapshot restore", &question(&reference, &manifest))?;
        }
        let restored = if self.disk_only || manifest.kind == SnapshotKind::Disk {
            let restored = client.restore_disks(&reference, self.reason.clone())?;
            Restored { workspace: restored.workspace, snapshot: reference, state: restored.state, started: None }
        } else {
            self.start(context, &client, reference)?
        };
        context.show(&restored)?;
        Ok(DONE)
    }
}

impl Args {
    fn start(&self, context: &Context, client: &Client, reference: SnapshotRef) -> Result<Restored, Error> {
        let options = StartOptions {
            from_snapshot: Some(reference.clone()),
            templates: context.templates(),
            reason: self.reason.clone(),
            supervisor: context.supervisor(),
            ..StartOptions::default()
        };
        let interrupt = options.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let report = signals.judge(client.start(&reference.workspace, &options).map_err(Error::from))?;
        Ok(Restored {
            workspace: report.workspace.clone(),
            snapshot: reference,
            state: report.state,
            started: Some(report),
        })
    }
}

/// What is lost.
fn question(reference: &SnapshotRef, manifest: &SnapshotManifest) -> String {
    let since = manifest.created_at;
    format!(
        "Return `{}` to `{}`? What was written to its disks since {since} is lost, and its settings are those of then, but for its restart policy.",
        reference.workspace, reference.tag
    )
}

#[derive(Serialize)]
struct Restored {
    workspace: Name,
    snapshot: SnapshotRef,
    state: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartReport>,
}

impl Text for Restored {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Workspace", self.workspace.to_string()),
                ("State", self.state.to_string()),
                ("From", self.snapshot.to_string()),
            ],
        )?;
        let note = self.started.as_ref().and_then(|started| started.template_note.as_ref());
        note.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}
