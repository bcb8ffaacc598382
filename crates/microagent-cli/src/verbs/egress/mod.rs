//! `microagent egress`

mod show;
mod test;

use super::Action;
use crate::context::Context;
use crate::error::Error;
use clap::Subcommand;

const EXAMPLES: &str = "\
Examples:
  microagent egress research
  microagent egress research --follow
  microagent egress research --learn > policy.yaml
  microagent egress test policy.yaml egress.jsonl";

/// Show what left a workspace, and what was not let out
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    show: Option<show::Args>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Test(test::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match (self.verb, self.show) {
            (Some(Verb::Test(args)), _) => args.run(context),
            (None, Some(args)) => args.run(context),
            (None, None) => unreachable!("the parser asks for a name"),
        }
    }
}
