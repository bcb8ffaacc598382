//! `microagent connect`

use super::Action;
use super::attached::Attached;
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::Format;
use crate::quantity;
use crate::terminal;
use crate::verbs::run::streams;
use clap_complete::ArgValueCandidates;
use microagent::ExecOptions;
use std::io::{self, IsTerminal};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  microagent connect research
  microagent connect research --send 'uname -a'
  microagent --json connect research --send 'cat /etc/os-release'

Ctrl-] or Ctrl-P Ctrl-Q leaves the shell running; `microagent exec NAME -it --attach ID` comes back.

Exit status: the shell's own, 124 when `--timeout` was over, 125 for a failure of microagent.";

/// Open an interactive shell in a workspace that runs
///
/// It is the workspace's own shell, on a terminal of the size of ours, and ends with everything that was started in it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Have the shell run one line, print what that prints, and end
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    send: Option<String>,
    /// Kill the shell of `--send` after this long, as in `90`, `5s` or `2m`
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration, requires = "send")]
    timeout: Option<Duration>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let client = context.client()?;
        let shell = client.record(&name)?.shell;
        let attached = Attached { context, client: &client, name: &name, tty: self.send.is_none(), limits: [None; 2] };
        if let Some(line) = &self.send {
            let options = ExecOptions { timeout: self.timeout, ..ExecOptions::new([&shell, "-c", line]) };
            return attached.run(&options, None);
        }
        if context.format() != Format::Text {
            return Err(Error::usage("an interactive shell has no JSON output", "run one line with `--send LINE`"));
        }
        if !io::stdin().is_terminal() {
            return Err(Error::usage(
                "`connect` needs a terminal on standard input",
                format!("run one line with `--send LINE`, or pipe a script to `microagent exec {name} -i -- {shell}`"),
            ));
        }
        let options = ExecOptions { tty: Some(terminal::size_or_default()), ..ExecOptions::new([&shell]) };
        attached.run(&options, Some(streams::stdin()?))
    }
}

impl Args {
    /// Whether the exit status is the guest's, so that failures of our own must stay out of its way.
    pub(crate) fn propagates_exit_code(context: &Context) -> bool {
        context.format() == Format::Text
    }
}
