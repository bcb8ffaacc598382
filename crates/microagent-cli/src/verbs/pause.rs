//! `microagent pause`

use super::Action;
use super::transition::Target;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  microagent pause research";

/// Stop the processors of a workspace
///
/// Nothing in it goes on until `resume`, but for a moment when a snapshot is taken of one that has secrets. Its memory stays; connections to
/// it may not survive a long pause.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        self.target.change(context, |client, name| client.pause(name, self.reason.clone()))
    }
}
