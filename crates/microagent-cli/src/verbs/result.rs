//! `microagent result`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use clap_complete::ArgValueCandidates;
use microagent::ResultRecord;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent result research
  microagent --json result research";

/// Show how the last command of a workspace ended, and what it wrote
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let result = context.client()?.result(&name)?;
        context.show(&result.ok_or(Error::ResultMissing { workspace: self.name })?)?;
        Ok(DONE)
    }
}

impl Text for ResultRecord {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let exit_code = match self.signal {
            Some(signal) => format!("{} (signal {signal})", self.exit_code),
            None => self.exit_code.to_string(),
        };
        labelled(
            out,
            &[
                ("Exit code", exit_code),
                ("Started", self.started_at.to_string()),
                ("Exited", self.exited_at.to_string()),
            ],
        )?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(out, "==> {name} <==\n{}", text.trim_end_matches('\n'))?;
            }
        }
        Ok(())
    }
}
