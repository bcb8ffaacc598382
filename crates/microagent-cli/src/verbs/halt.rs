//! `microagent halt`

use super::Action;
use super::transition::Target;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  microagent halt research
  microagent halt research --reason 'end of the day'";

/// End a workspace cleanly
///
/// Its command is asked to end, as is everything that still runs in it; what was written is on its disk when the verb returns, and there at
/// the next start.
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
        self.target.change(context, |client, name| client.halt(name, self.reason.clone()))
    }
}
