//! `microagent snapshot fork`

use super::target::reference;
use super::{Action, DONE, FOUND_WRONG};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Format, Text};
use crate::signals::Signals;
use crate::{failure, table};
use clap::ArgAction;
use clap_complete::ArgValueCandidates;
use microagent::{FaultReport, ForkOptions, Forked, ForwardRecord, Name, StartOptions, parse_forward};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent snapshot fork research:before-upgrade
  microagent snapshot fork research:ready --count 10 --name worker
  microagent --json snapshot fork research:ready --name trial -p 8080:80

Exit status: 0 when all of them are there, 1 when one could not be started.";

/// Make workspaces that go on from a snapshot
///
/// Each is somebody of its own: host name, machine id, clock, randomness, network and disks are not those of the workspace the snapshot was
/// taken of, which never notices. They are given its secrets only with `--with-secrets`. Of a snapshot of disks, they are made and not
/// started.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The snapshot
    #[arg(value_name = "NAME:TAG", add = ArgValueCandidates::new(completion::snapshots))]
    snapshot: String,
    /// How many there are to be
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Name of the one, or what those of several are made of: PREFIX-1, PREFIX-2, ...
    /// [default: WORKSPACE-fork-N]
    #[arg(long, value_name = "PREFIX")]
    name: Option<String>,
    /// Forward a TCP port of this host into each; with several, port 0 takes one that is free; repeatable
    #[arg(long, short, value_name = "[HOST:]HOSTPORT:GUESTPORT", action = ArgAction::Append)]
    publish: Vec<String>,
    /// Give them the secrets and credentials of the snapshot's workspace
    #[arg(long)]
    with_secrets: bool,
    /// Why, for the workspaces' events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let from = reference(&self.snapshot)?;
        let forwards = self.publish.iter().map(|mapping| parse_forward(mapping));
        let options = ForkOptions {
            names: names(self.name.as_deref(), self.count)?,
            count: self.count,
            secrets: self.with_secrets,
            forwards: forwards.collect::<Result<Vec<ForwardRecord>, _>>()?,
            disk_only: false,
            start: StartOptions {
                templates: context.templates(),
                reason: self.reason,
                supervisor: context.supervisor(),
                ..StartOptions::default()
            },
        };
        let interrupt = options.start.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let forks = Forks { forks: signals.judge(context.client()?.fork(&from, &options).map_err(Error::from))? };
        context.show(&forks)?;
        let failed: Vec<FaultReport> = forks.forks.iter().filter_map(failure_of).collect();
        if context.format() == Format::Text {
            failed.iter().try_for_each(|report| failure::show(report, Format::Text))?;
        }
        if !failed.is_empty() {
            signals.check()?;
            return Ok(FOUND_WRONG);
        }
        Ok(DONE)
    }
}

/// The names that are wanted; none where they are to be made up. A count that cannot be is the library's to refuse.
fn names(prefix: Option<&str>, count: usize) -> Result<Vec<Name>, Error> {
    match prefix {
        None => Ok(Vec::new()),
        Some(name) if count == 1 => Ok(vec![workspace_name(name)?]),
        Some(prefix) => {
            // The longest is the first to be refused.
            workspace_name(&format!("{prefix}-{count}"))?;
            (1..=count.min(ForkOptions::MAX)).map(|number| workspace_name(&format!("{prefix}-{number}"))).collect()
        }
    }
}

/// Why one is not there, for people: with its name.
fn failure_of(fork: &Forked) -> Option<FaultReport> {
    let report = fork.error.clone()?;
    Some(FaultReport { message: format!("{}: {}", fork.workspace, report.message), ..report })
}

#[derive(Serialize)]
struct Forks {
    forks: Vec<Forked>,
}

impl Text for Forks {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        table::write(out, &["WORKSPACE", "STATE", "READY"], self.forks.iter().map(cells).collect())
    }
}

fn cells(fork: &Forked) -> Vec<String> {
    let state = fork.state.map_or("not started".to_owned(), |state| state.to_string());
    let ready = fork.started.as_ref().map(|started| format!("{} ms", started.ready_ms));
    vec![fork.workspace.to_string(), state, ready.unwrap_or_default()]
}
