//! `microagent start`

use super::{Action, DONE, FOUND_WRONG, snapshot};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use crate::signals::Signals;
use clap_complete::ArgValueCandidates;
use microagent::{Name, SnapshotRef, StartOptions, StartReport, Templates, Waited};
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  microagent start research
  microagent start research --wait
  microagent start research --from-snapshot before-upgrade
  microagent --json start research";

/// Start a workspace, in the background
///
/// Returns when the guest answers. The workspace runs until it is halted, its command ends, or its time is up; it does not end with the
/// terminal it was started from.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Wait until the workspace has ended again
    #[arg(long)]
    wait: bool,
    /// The same, at most this long
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    wait_timeout: Option<Duration>,
    /// Go on from this snapshot of the workspace; what was written to its disks since is lost
    #[arg(long, value_name = "TAG")]
    from_snapshot: Option<String>,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Boot the kernel, without using or making a template [env: MICROAGENT_TEMPLATES=off]
    #[arg(long, conflicts_with = "from_snapshot")]
    cold: bool,
    /// Program that runs the workspace, instead of this one [env: MICROAGENT_SUPERVISOR]
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    supervisor: Option<PathBuf>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let client = context.client()?;
        let options = StartOptions {
            templates: if self.cold { Templates::Off } else { context.templates() },
            from_snapshot: self.from_snapshot.as_deref().map(|tag| snapshot_of(&name, tag)).transpose()?,
            reason: self.reason,
            supervisor: self.supervisor.or_else(|| context.supervisor()),
            ..StartOptions::default()
        };
        let interrupt = options.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let report = signals.judge(client.start(&name, &options).map_err(Error::from))?;
        if !self.wait && self.wait_timeout.is_none() {
            context.show(&Started { start: report, end: None })?;
            return Ok(DONE);
        }
        let end = client.wait(&name, self.wait_timeout)?;
        let status = if end.ok { DONE } else { FOUND_WRONG };
        context.show(&Started { start: report, end: Some(end) })?;
        Ok(status)
    }
}

/// The snapshot of `name` that is meant by its tag, or by `NAME:TAG`. One of another workspace is the library's to refuse.
fn snapshot_of(name: &Name, tag: &str) -> Result<SnapshotRef, Error> {
    if tag.contains(':') {
        return snapshot::reference(tag);
    }
    Ok(SnapshotRef { workspace: name.clone(), tag: snapshot::tag(tag)? })
}

#[derive(Serialize)]
struct Started {
    #[serde(flatten)]
    start: StartReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Waited>,
}

impl Text for Started {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let StartReport { workspace, state, backend, engine, template_note, .. } = &self.start;
        labelled(
            out,
            &[
                ("Workspace", workspace.to_string()),
                ("State", self.end.as_ref().map_or(*state, |end| end.state).to_string()),
                ("Backend", format!("{backend} ({engine})")),
            ],
        )?;
        template_note.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}
