//! `microagent quarantine`

use super::Action;
use super::transition::Target;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  microagent quarantine research --reason 'reads what it should not' --yes";

/// Take a workspace out of service for good
///
/// Its processors are stopped before anything else, then its machine is ended; it can never be started again. Its disk, logs and events
/// stay as they are, until it is deleted with `--force`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    yes: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        self.target.confirm(self.yes, "Quarantine", context)?;
        self.target.change(context, |client, name| client.quarantine(name, self.reason.clone()))
    }
}
