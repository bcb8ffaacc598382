//! `microagent egress NAME`

use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{self, Format, Text};
use crate::verbs::{Action, DONE};
use clap_complete::ArgValueCandidates;
use microagent::egress::{Event, Happened};
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

fn show(event: &Event, format: Format) -> Result<(), Error> {
    if format != Format::Text {
        return output::show_line(event);
    }
    let mut out = anstream::stdout().lock();
    line(event, &mut out)?;
    Ok(out.flush()?)
}

#[derive(Serialize)]
struct Events {
    events: Vec<Event>,
}

impl Text for Events {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.events.iter().try_for_each(|event| line(event, out))
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

/// One event on one line, whatever words it holds.
pub(super) fn line(event: &Event, out: &mut dyn Write) -> io::Result<()> {
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    write!(out, "{:.3} {:<17} {:<5} {}", event.at, name(event.event), event.protocol, plain(&event.peer()))?;
    if let (Some(_), Some(address)) = (&event.host, event.address) {
        write!(out, " ({address})")?;
    }
    if let Some(reason) = event.reason {
        write!(out, " {}: {reason}", reason.name())?;
    }
    if let Some(credential) = &event.credential {
        write!(out, " {}", plain(credential))?;
    }
    if let (Some(sent), Some(received)) = (event.bytes_sent, event.bytes_received) {
        write!(out, " sent={sent} received={received}")?;
    }
    if let Some(detail) = &event.detail {
        write!(out, " ({})", plain(detail))?;
    }
    writeln!(out)
}

fn name(happened: Happened) -> &'static str {
    match happened {
        Happened::Allow => "egress_allow",
        Happened::Deny => "egress_deny",
        Happened::Close => "egress_close",
        Happened::Error => "egress_error",
        Happened::Swap => "egress_swap",
        Happened::SwapError => "egress_swap_error",
        Happened::LeftOut => "egress_left_out",
    }
}
