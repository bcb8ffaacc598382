//! `microagent kill`

use super::Action;
use super::transition::{Target, agree};
use crate::context::Context;
use crate::error::Error;
use clap::builder::NonEmptyStringValueParser;

const EXAMPLES: &str = "\
Examples:
  microagent kill research --reason 'does not answer'
  microagent kill research --reason runaway --yes";

/// End a workspace at once
///
/// What was not flushed to its disk is lost. `halt` is the clean way.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    yes: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = self.target.name()?;
        let state = context.client()?.record(&name)?.phase;
        if !self.yes && state.is_live() {
            agree(context.format(), "kill", &format!("Kill `{name}`, which is {state}?"))?;
        }
        self.target.change(context, |client, name| client.kill(name, self.reason.clone()))
    }
}
