//! `microagent exec`

mod listing;

use super::Action;
use super::attached::Attached;
use super::definition::environment::{self, Variables};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Format, Text};
use crate::quantity;
use crate::terminal;
use crate::verbs::run::streams;
use clap_complete::ArgValueCandidates;
use listing::Processes;
use microagent::{Client, ExecOptions, Name};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  microagent exec research -- uname -a
  microagent exec research -e GREETING=hello -- printenv GREETING
  microagent exec research -i -- tar x -C /workspace < data.tar
  microagent exec research -it -- /bin/sh
  microagent exec research --timeout 30s -- make test
  microagent exec research --detach -- sleep 3600
  microagent exec research -it --attach 7
  microagent --json exec research -- cat /etc/os-release

Exit status: the command's own (128 plus the signal that killed it), 124 when its time was up,
126 or 127 when it cannot be executed or is not there, and 125 for every other failure.";

/// Run a command in a workspace that runs
///
/// Its standard input is ours with `-i`; its outputs are ours. With `-t` it has a terminal; Ctrl-P Ctrl-Q then leaves it running.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "microagent exec [OPTIONS] <NAME> -- <ARGV>...\n       microagent exec <NAME> --list\n       microagent exec [OPTIONS] <NAME> --attach <ID>")]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// The program and its arguments
    #[arg(value_name = "ARGV", trailing_var_arg = true)]
    argv: Vec<String>,
    #[command(flatten)]
    variables: Variables,
    /// Directory it starts in [default: the workspace's]
    #[arg(long, short, visible_alias = "cwd", value_name = "DIR")]
    workdir: Option<String>,
    /// User it runs as [default: the workspace's]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Pass standard input to it
    #[arg(long, short)]
    interactive: bool,
    /// File to pass as its standard input, `-` for ours
    #[arg(long, value_name = "PATH", conflicts_with = "interactive")]
    stdin: Option<String>,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Kill it after this long, as in `90`, `5s` or `2m`
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    timeout: Option<Duration>,
    /// Accepted for compatibility: text output always comes as it is written
    #[arg(long, hide = true)]
    stream: bool,
    /// Most bytes of standard output that JSON output holds
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    stdout_limit: Option<usize>,
    /// Most bytes of standard error that JSON output holds
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    stderr_limit: Option<usize>,
    /// Print its id and leave it running
    #[arg(long, short, conflicts_with_all = ["interactive", "stdin", "timeout"])]
    detach: bool,
    /// Take over the outputs of a process that was left running
    #[arg(long, value_name = "ID", conflicts_with_all = ["argv", "detach"])]
    attach: Option<String>,
    /// List the processes that were started in this way
    #[arg(long, conflicts_with_all = ["argv", "detach", "attach"])]
    list: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let client = context.client()?;
        if self.list {
            context.show(&Processes { processes: client.connect(&name)?.processes()? })?;
            return Ok(super::DONE);
        }
        let limits = [self.stdout_limit, self.stderr_limit];
        let attached = Attached { context, client: &client, name: &name, tty: self.tty, limits };
        if let Some(id) = &self.attach {
            return attached.resume(id, self.stdin()?);
        }
        if self.argv.is_empty() {
            return Err(Error::usage(
                "`exec` needs a command",
                format!("name one, as in `microagent exec {name} -- uname -a`"),
            ));
        }
        let options = self.options()?;
        if self.detach {
            return leave_running(context, &client, &name, &options);
        }
        attached.run(&options, self.stdin()?)
    }
}

impl Args {
    fn options(&self) -> Result<ExecOptions, Error> {
        Ok(ExecOptions {
            env: environment::collect(&self.variables)?,
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            tty: self.tty.then(terminal::size_or_default),
            timeout: self.timeout,
            ..ExecOptions::new(self.argv.iter().cloned())
        })
    }

    fn stdin(&self) -> Result<Option<Box<dyn Read + Send>>, Error> {
        match self.stdin.as_deref() {
            None if self.interactive => Ok(Some(streams::stdin()?)),
            None => Ok(None),
            Some("-") => Ok(Some(streams::stdin()?)),
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|source| microagent::Error::ReadFile {
                    option: "--stdin",
                    path: path.into(),
                    source,
                })?;
                Ok(Some(Box::new(file)))
            }
        }
    }

    /// Whether the exit status is the guest's, so that failures of our own must stay out of its way.
    pub(crate) fn propagates_exit_code(&self, context: &Context) -> bool {
        !self.list && !self.detach && context.format() == Format::Text
    }
}

/// Starts a command that nobody stays with.
fn leave_running(context: &Context, client: &Client, name: &Name, options: &ExecOptions) -> Result<u8, Error> {
    let connection = client.connect(name)?;
    let process = connection.exec_detached(options)?;
    context.show(&Detached { workspace: name.clone(), process: process.id().to_owned() })?;
    Ok(super::DONE)
}

/// A process that was left running.
#[derive(Serialize)]
struct Detached {
    workspace: Name,
    process: String,
}

impl Text for Detached {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.process)
    }
}
