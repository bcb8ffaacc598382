//! `microagent logs`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{self, Format, Text};
use clap::ValueEnum;
use clap_complete::ArgValueCandidates;
use microagent::{Log, Logs};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent logs research
  microagent logs research --follow
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
    only: Option<Only>,
    /// Show the command's output as it comes, on the same two streams, until the workspace is at rest
    #[arg(long, short)]
    follow: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Only {
    /// The guest kernel's console
    Console,
    /// The command's standard output
    Stdout,
    /// The command's standard error
    Stderr,
}

impl From<Only> for Log {
    fn from(only: Only) -> Log {
        match only {
            Only::Console => Log::Console,
            Only::Stdout => Log::Stdout,
            Only::Stderr => Log::Stderr,
        }
    }
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let client = context.client()?;
        if self.follow {
            let wanted = self.only.map_or(vec![Log::Stdout, Log::Stderr], |only| vec![only.into()]);
            let mut passed_on = Ok(());
            client.follow_logs(&name, &wanted, |log, bytes| {
                passed_on = pass_on(log, bytes, context.format());
                passed_on.is_ok()
            })?;
            return passed_on.map(|()| DONE);
        }
        let logs = client.logs(&name)?;
        if self.only.is_some() && context.format() != Format::Text {
            return Err(Error::usage("`--only` chooses what to show as text", "JSON always has all three logs"));
        }
        context.show(&Shown { logs, only: self.only })?;
        Ok(DONE)
    }
}

/// A piece of a log, as a line of JSON.
#[derive(Serialize)]
struct Piece<'a> {
    log: &'static str,
    text: std::borrow::Cow<'a, str>,
}

fn pass_on(log: Log, bytes: &[u8], format: Format) -> Result<(), Error> {
    let name = match log {
        Log::Console => "console",
        Log::Stdout => "stdout",
        Log::Stderr => "stderr",
    };
    if format != Format::Text {
        return output::show_line(&Piece { log: name, text: String::from_utf8_lossy(bytes) });
    }
    let mut out: Box<dyn Write> = if log == Log::Stderr { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    logs: Logs,
    #[serde(skip)]
    only: Option<Only>,
}

impl Text for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Logs { console, stdout, stderr } = &self.logs;
        match self.only {
            Some(Only::Console) => out.write_all(console.as_bytes()),
            Some(Only::Stdout) => out.write_all(stdout.as_bytes()),
            Some(Only::Stderr) => out.write_all(stderr.as_bytes()),
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
