//! `microagent artifact`

mod get;
mod list;

use super::Action;
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use clap::Subcommand;
use clap_complete::ArgValueCandidates;

const EXAMPLES: &str = "\
Examples:
  microagent artifact report-run
  microagent artifact list report-run
  microagent artifact get report-run report ./report.txt";

/// List and fetch the results a workspace declares with `--output`
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Name of the workspace, as with `list`
    #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(completion::workspaces))]
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(visible_alias = "ls")]
    List(list::Args),
    Get(get::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match (self.verb, self.name) {
            (Some(Verb::List(args)), _) => args.run(context),
            (Some(Verb::Get(args)), _) => args.run(context),
            (None, name) => list::Args { name: name.unwrap_or_default() }.run(context),
        }
    }
}
