//! `microagent delete`

use super::transition::agree;
use super::{Action, DONE, FOUND_WRONG};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::failure;
use crate::output::{Format, Text};
use clap_complete::ArgValueCandidates;
use microagent::{Client, DeleteOptions, Deleted, Fault, FaultReport, Name};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent delete research
  microagent delete research-1 research-2 --yes
  microagent delete stuck --force --reason 'it does not halt'

Exit status: 0 when none of the workspaces is there any more, 1 when one could not be deleted.";

/// Delete workspaces with their disks and snapshots
///
/// A workspace that is not there counts as deleted. What went on from a snapshot of a workspace stays. With `--yes` one that runs is halted first, with `--force` it is killed; one that is
/// quarantined needs `--force`. One that cannot be deleted does not keep the others from it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names of the workspaces
    #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(completion::workspaces))]
    names: Vec<String>,
    /// Do not ask; needed where nobody can answer. Halts what runs
    #[arg(long, short)]
    yes: bool,
    /// Do not ask, kill what runs, and delete what is quarantined
    #[arg(long, short)]
    force: bool,
    /// Why, for the events of a workspace that runs
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let names = self.names.iter().map(|name| workspace_name(name)).collect::<Result<Vec<Name>, Error>>()?;
        if !self.yes && !self.force {
            confirm(&context.client()?, &names, context.format())?;
        }
        let client = context.client()?;
        let options = DeleteOptions { halt: true, force: self.force, reason: self.reason };
        let rows: Vec<Row> = names.iter().map(|name| Row::new(name, client.delete(name, &options))).collect();
        let all = AllDeleted { deleted: rows };
        context.show(&all)?;
        let mut failed = false;
        for error in all.deleted.iter().filter_map(|row| row.error.as_ref()) {
            failed = true;
            if context.format() == Format::Text {
                failure::show(error, Format::Text)?;
            }
        }
        Ok(if failed { FOUND_WRONG } else { DONE })
    }
}

fn confirm(client: &Client, names: &[Name], format: Format) -> Result<(), Error> {
    let snapshots = |name: &Name| client.state().snapshots(name).tags().map_or(0, |tags| tags.len());
    let also = match names.iter().map(snapshots).sum::<usize>() {
        0 => String::new(),
        1 => ", and its snapshot".to_owned(),
        count => format!(", and {count} snapshots"),
    };
    let names: Vec<_> = names.iter().map(Name::as_str).collect();
    agree(format, "delete", &format!("Delete {} and everything in it{also}?", names.join(", ")))
}

#[derive(Serialize)]
struct AllDeleted {
    deleted: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    deleted: Deleted,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FaultReport>,
}

impl Row {
    fn new(name: &Name, outcome: Result<Deleted, microagent::Error>) -> Row {
        match outcome {
            Ok(deleted) => Row { deleted, error: None },
            Err(error) => {
                let deleted = Deleted { workspace: name.clone(), deleted: false, snapshots: 0 };
                Row { deleted, error: Some(FaultReport::new(&error as &dyn Fault)) }
            }
        }
    }
}

impl Text for AllDeleted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        // What could not be deleted is told as every failure is.
        let done = self.deleted.iter().filter(|row| row.error.is_none());
        done.map(|row| &row.deleted).try_for_each(|Deleted { workspace, deleted, snapshots }| {
            let what = if *deleted { "Deleted" } else { "Not there" };
            let also = match snapshots {
                0 => String::new(),
                1 => ", and a snapshot".to_owned(),
                count => format!(", and {count} snapshots"),
            };
            writeln!(out, "{what}: {workspace}{also}")
        })
    }
}
