//! `microagent events`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::lines::{Events, Line, plain, show};
use clap_complete::ArgValueCandidates;
use microagent::WorkspaceEvent;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent events research
  microagent events research --follow
  microagent --json events research";

/// Show what happened to a workspace: when, what, who asked, and why
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Go on with what happens from now on, until the workspace is at rest
    #[arg(long, short)]
    follow: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let client = context.client()?;
        if !self.follow {
            context.show(&Events { events: client.events(&name)? })?;
            return Ok(DONE);
        }
        let mut shown = Ok(());
        client.follow_events(&name, |event| {
            shown = show(event, context.format());
            shown.is_ok()
        })?;
        shown.map(|()| DONE)
    }
}

impl Line for WorkspaceEvent {
    fn line(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{:.3} {:<12} by {}", self.at, self.event, plain(&self.cause.actor))?;
        if let Some(reason) = &self.cause.reason {
            write!(out, ": {}", plain(reason))?;
        }
        if let Some(error) = &self.error {
            write!(out, " ({}: {})", error.code, plain(&error.message))?;
        }
        writeln!(out)
    }
}
