//! `microagent events`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{self, Format, Text};
use clap_complete::ArgValueCandidates;
use microagent::WorkspaceEvent;
use serde::Serialize;
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

fn show(event: &WorkspaceEvent, format: Format) -> Result<(), Error> {
    if format != Format::Text {
        return output::show_line(event);
    }
    let mut out = anstream::stdout().lock();
    line(event, &mut out)?;
    Ok(out.flush()?)
}

#[derive(Serialize)]
struct Events {
    events: Vec<WorkspaceEvent>,
}

impl Text for Events {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.events.iter().try_for_each(|event| line(event, out))
    }
}

/// One event on one line, whatever words it holds.
fn line(event: &WorkspaceEvent, out: &mut dyn Write) -> io::Result<()> {
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    write!(out, "{:.3} {:<12} by {}", event.at, event.event, plain(&event.cause.actor))?;
    if let Some(reason) = &event.cause.reason {
        write!(out, ": {}", plain(reason))?;
    }
    if let Some(error) = &event.error {
        write!(out, " ({}: {})", error.code, plain(&error.message))?;
    }
    writeln!(out)
}
