//! `microagent wait`

use super::{Action, DONE, FOUND_WRONG};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::Waited;
use std::io::{self, Write};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  microagent wait research
  microagent wait research --timeout 10m

Exit status: 0 when the workspace is at rest as it should be (halted, stopped or never started),
1 when it failed or was quarantined, or the time was up.";

/// Wait until a workspace has ended
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Wait at most this long, as in `90`, `5s` or `10m`
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    timeout: Option<Duration>,
    /// Accepted for compatibility: the end is noticed when it happens
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration, hide = true)]
    interval: Option<Duration>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let waited = context.client()?.wait(&workspace_name(&self.name)?, self.timeout)?;
        let status = if waited.ok { DONE } else { FOUND_WRONG };
        context.show(&waited)?;
        Ok(status)
    }
}

impl Text for Waited {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(out, &[("Workspace", self.workspace.to_string()), ("State", self.state.to_string())])?;
        if self.timed_out { writeln!(out, "note: the time was up before it ended") } else { Ok(()) }
    }
}
