//! `microagent delete`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Format, Text};
use clap_complete::ArgValueCandidates;
use microagent::{Deleted, Name};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

const EXAMPLES: &str = "\
Examples:
  microagent delete research
  microagent delete research-1 research-2 --yes";

/// Delete workspaces and their disks
///
/// A workspace that is not there counts as deleted. The first that cannot be deleted, because it is running, ends the verb.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names of the workspaces
    #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(completion::workspaces))]
    names: Vec<String>,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    yes: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let names = self.names.iter().map(|name| workspace_name(name)).collect::<Result<Vec<Name>, Error>>()?;
        if !self.yes {
            confirm(&self.names, context.format())?;
        }
        let client = context.client()?;
        let deleted = names.iter().map(|name| client.delete(name)).collect::<Result<Vec<Deleted>, _>>()?;
        context.show(&AllDeleted { deleted })?;
        Ok(DONE)
    }
}

fn confirm(names: &[String], format: Format) -> Result<(), Error> {
    if format != Format::Text || !io::stdin().is_terminal() {
        return Err(Error::ConfirmationNeeded);
    }
    write!(anstream::stderr(), "Delete {} and everything in it? [y/N] ", names.join(", "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(Error::Declined) }
}

#[derive(Serialize)]
struct AllDeleted {
    deleted: Vec<Deleted>,
}

impl Text for AllDeleted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.deleted.iter().try_for_each(|Deleted { workspace, deleted }| {
            let what = if *deleted { "Deleted" } else { "Not there" };
            writeln!(out, "{what}: {workspace}")
        })
    }
}
