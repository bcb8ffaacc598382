//! `microagent quarantine`

use super::transition::{Target, agree};
use super::{Action, DONE, FOUND_WRONG, snapshot};
use crate::context::Context;
use crate::error::Error;
use crate::failure;
use crate::output::{Format, Text};
use clap::builder::NonEmptyStringValueParser;
use microagent::Quarantined;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent quarantine research --reason 'reads what it should not' --yes
  microagent quarantine research --reason 'speaks with strangers' --capture --tag evidence --yes

Exit status: 1 also when the workspace is quarantined and `--capture` could not be done.";

/// Take a workspace out of service for good
///
/// Its machine is ended at once; it can never be started again. Its disk, logs and events stay as they are, until it is deleted with
/// `--force`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// First keep its memory and disks as they are, secrets included, as a snapshot that nothing can be started from
    #[arg(long)]
    capture: bool,
    /// What that snapshot is to be called [default: made of the time]
    #[arg(long, value_name = "TAG", requires = "capture")]
    tag: Option<String>,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    yes: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let tag = self.tag.as_deref().map(snapshot::tag).transpose()?;
        if !self.yes {
            agree(context.format(), "quarantine", &self.question(context)?)?;
        }
        if self.capture {
            let report = context.client()?.capture_and_quarantine(&self.target.name()?, self.reason, tag)?;
            context.show(&report)?;
            let Some(error) = &report.capture_error else { return Ok(DONE) };
            if context.format() == Format::Text {
                failure::show(error, Format::Text)?;
            }
            return Ok(FOUND_WRONG);
        }
        self.target.change(context, |client, name| client.quarantine(name, self.reason.clone()))
    }
}

impl Args {
    /// What is given up.
    fn question(&self, context: &Context) -> Result<String, Error> {
        let name = self.target.name()?;
        let state = context.client()?.record(&name)?.phase;
        Ok(format!("Quarantine `{name}`, which is {state}? It can never be started again."))
    }
}

impl Text for Quarantined {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.report.text(out)?;
        // That there is none is told as every failure is.
        self.capture.iter().try_for_each(|tag| writeln!(out, "Capture: {}:{tag}", self.report.workspace))
    }
}
