//! `microagent egress NAME`

use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::lines::{Events, Line, plain, show};
use crate::output::Text;
use crate::verbs::{Action, DONE};
use clap_complete::ArgValueCandidates;
use microagent::egress::Event;
use serde::Serialize;
use std::io::{self, Write};

/// What is shown.
#[derive(clap::Args, Debug)]
#[group(id = "shown")]
pub(super) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Go on with what happens from now on, until the workspace is at rest
    #[arg(long, short, conflicts_with = "learn")]
    follow: bool,
    /// Print the smallest policy that would have allowed what was attempted, as a policy file
    #[arg(long)]
    learn: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let client = context.client()?;
        if self.learn {
            context.show(&Learned { policy: client.learn_egress(&name)? })?;
            return Ok(DONE);
        }
        if !self.follow {
            context.show(&Events { events: client.egress(&name, 0)?.0 })?;
            return Ok(DONE);
        }
        let mut shown = Ok(());
        client.follow_egress(&name, |event| {
            shown = show(event, context.format());
            shown.is_ok()
        })?;
        shown.map(|()| DONE)
    }
}

#[derive(Serialize)]
struct Learned {
    policy: String,
}

impl Text for Learned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.policy.as_bytes())
    }
}

impl Line for Event {
    fn line(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{:.3} {:<17} {:<5} {}", self.at, self.event, self.protocol, plain(&self.peer()))?;
        if let (Some(_), Some(address)) = (&self.host, self.address) {
            write!(out, " ({address})")?;
        }
        if let Some(reason) = self.reason {
            write!(out, " {}: {reason}", reason.name())?;
        }
        if let Some(credential) = &self.credential {
            write!(out, " {}", plain(credential))?;
        }
        if let (Some(sent), Some(received)) = (self.bytes_sent, self.bytes_received) {
            write!(out, " sent={sent} received={received}")?;
        }
        if let Some(detail) = &self.detail {
            write!(out, " ({})", plain(detail))?;
        }
        writeln!(out)
    }
}
