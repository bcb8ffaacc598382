//! `microagent template`

mod list;
mod prepare;
mod prune;

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use clap::Subcommand;

const EXAMPLES: &str = "\
Examples:
  microagent template list
  microagent template prepare --profile medium
  microagent template prune
  microagent template prune --all";

/// List, make and remove templates: frozen guests that runs are restored from
///
/// The first run of each kind of machine makes one. They can be removed at any time: the next run makes its own again, and machines that
/// run are not touched. `run --cold` and MICROAGENT_TEMPLATES=off do without.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(visible_alias = "ls")]
    List(list::Args),
    Prepare(prepare::Args),
    Prune(prune::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match self.verb {
            Verb::List(args) => args.run(context),
            Verb::Prepare(args) => args.run(context),
            Verb::Prune(args) => args.run(context),
        }
    }
}

/// As much of a key as tells it from any other on one host.
fn short(key: &str) -> &str {
    key.get(..12).unwrap_or(key)
}
