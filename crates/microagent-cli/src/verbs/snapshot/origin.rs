//! `create --from-snapshot`: a new workspace of which a snapshot decides everything but its name and its ports.

use super::target::reference;
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::signals::Signals;
use crate::verbs::DONE;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use clap_complete::ArgValueCandidates;
use microagent::{ForkOptions, Forked, ForwardRecord, Phase, SnapshotRef, StartOptions, StartReport};
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// The snapshot, and what is taken of it.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Snapshot")]
pub(in crate::verbs) struct OriginArgs {
    /// Go on from a snapshot, of this or another workspace, instead of an image; the new workspace runs afterwards
    #[arg(long, value_name = "NAME:TAG", add = ArgValueCandidates::new(completion::snapshots))]
    from_snapshot: Option<String>,
    /// Give it the secrets and credentials of the snapshot's workspace
    #[arg(long, requires = "from_snapshot")]
    with_secrets: bool,
    /// Take the disks of the snapshot alone, and start nothing
    #[arg(long, requires = "from_snapshot")]
    disk_only: bool,
}

impl OriginArgs {
    /// The snapshot that the workspace is to be made of, if one is given. Fails where something is given that it decides.
    pub(in crate::verbs) fn snapshot(&self, decided: &Decided) -> Result<Option<SnapshotRef>, Error> {
        let Some(given) = &self.from_snapshot else { return Ok(None) };
        match decided.0.first() {
            Some(flag) => Err(Error::usage(
                format!("`{flag}` cannot be given with `--from-snapshot`: the snapshot decides it"),
                "leave it out, or make a workspace of an image; `--name`, `--publish` and `--with-secrets` may be given",
            )),
            None => Ok(Some(reference(given)?)),
        }
    }

    /// Makes the workspace.
    pub(in crate::verbs) fn create(
        &self,
        context: &Context,
        snapshot: &SnapshotRef,
        name: Option<&str>,
        forwards: Vec<ForwardRecord>,
        supervisor: Option<PathBuf>,
    ) -> Result<u8, Error> {
        let options = ForkOptions {
            names: name.map(workspace_name).transpose()?.into_iter().collect(),
            count: 1,
            secrets: self.with_secrets,
            forwards,
            disk_only: self.disk_only,
            start: StartOptions {
                templates: context.templates(),
                supervisor: supervisor.or_else(|| context.supervisor()),
                ..StartOptions::default()
            },
        };
        let interrupt = options.start.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let forks = signals.judge(context.client()?.fork(snapshot, &options).map_err(Error::from))?;
        for fork in forks {
            let Forked { workspace, state, started, error } = fork;
            if let Some(report) = error {
                return signals.judge(Err(microagent::Error::Supervisor(Box::new(report)).into()));
            }
            let state = state.unwrap_or(Phase::Prepared);
            context.show(&Made { workspace: workspace.to_string(), state, from: snapshot.clone(), started })?;
        }
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Made {
    workspace: String,
    state: Phase,
    from: SnapshotRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartReport>,
}

impl Text for Made {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Workspace", self.workspace.clone()),
                ("State", self.state.to_string()),
                ("From", self.from.to_string()),
            ],
        )?;
        let note = self.started.as_ref().and_then(|started| started.template_note.as_ref());
        note.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}

/// What may be given beside a snapshot.
const FREE: [&str; 8] =
    ["positional", "name", "publish", "from_snapshot", "with_secrets", "disk_only", "create_supervisor", "state_dir"];

/// Flags of the line that a snapshot decides. They are those that are not known to be free, so that a flag of later work is refused and not
/// forgotten. It has to be the first of its command's fields: those before it have taken what is theirs out of the matches.
#[derive(Clone, Debug, Default)]
pub(in crate::verbs) struct Decided(Vec<String>);

impl clap::FromArgMatches for Decided {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Decided, clap::Error> {
        let given = |id: &&clap::Id| {
            // Groups are called after types.
            let is_flag = id.as_str().starts_with(|first: char| first.is_ascii_lowercase());
            is_flag && matches.value_source(id.as_str()) == Some(ValueSource::CommandLine)
        };
        let decided = matches.ids().filter(given).map(clap::Id::as_str).filter(|id| !FREE.contains(id));
        let flag = |id: &str| match id {
            "request" => "--json".to_owned(),
            id => format!("--{}", id.replace('_', "-")),
        };
        Ok(Decided(decided.map(flag).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Decided::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Decided {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}
