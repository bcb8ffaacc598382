//! `microagent logs`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Format, Text};
use clap::ValueEnum;
use clap_complete::ArgValueCandidates;
use microagent::Logs;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent logs research
  microagent logs research --only console
  microagent --json logs research";

/// Show what a workspace said: its command's output and its kernel's console
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Show one log, as it is and without a heading
    #[arg(long, value_name = "LOG")]
    only: Option<Log>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Log {
    /// The guest kernel's console
    Console,
    /// The command's standard output
    Stdout,
    /// The command's standard error
    Stderr,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let logs = context.client()?.logs(&name)?;
        if self.only.is_some() && context.format() != Format::Text {
            return Err(Error::usage("`--only` chooses what to show as text", "JSON always has all three logs"));
        }
        context.show(&Shown { logs, only: self.only })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    logs: Logs,
    #[serde(skip)]
    only: Option<Log>,
}

impl Text for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Logs { console, stdout, stderr } = &self.logs;
        match self.only {
            Some(Log::Console) => out.write_all(console.as_bytes()),
            Some(Log::Stdout) => out.write_all(stdout.as_bytes()),
            Some(Log::Stderr) => out.write_all(stderr.as_bytes()),
            None => {
                let logs = [("console", console), ("stdout", stdout), ("stderr", stderr)];
                logs.iter().filter(|(_, text)| !text.is_empty()).try_for_each(|(name, text)| {
                    writeln!(out, "==> {name} <==")?;
                    out.write_all(text.as_bytes())?;
                    if text.ends_with('\n') { Ok(()) } else { writeln!(out) }
                })
            }
        }
    }
}
