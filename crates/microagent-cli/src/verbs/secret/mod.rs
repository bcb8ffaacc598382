//! `microagent secret`

mod audit;
mod check;

use super::Action;
use crate::context::Context;
use crate::error::Error;
use clap::Subcommand;

const EXAMPLES: &str = "\
Examples:
  microagent secret check TOKEN=env:API_TOKEN DB=vault:kv/data/app#password
  microagent secret check --workspace research
  microagent secret audit research";

/// See whether secrets can be had, and who was given them
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Args),
    Audit(audit::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match self.verb {
            Verb::Check(args) => args.run(context),
            Verb::Audit(args) => args.run(context),
        }
    }
}
