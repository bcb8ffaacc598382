//! `microagent ps`

use super::list::Workspaces;
use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  microagent ps
  microagent --json ps";

/// List the workspaces that run
///
/// Those that start, stop or are paused are among them; `list` shows all.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let rows = context.client()?.list()?;
        let workspaces = rows.into_iter().filter(|row| row.state.is_live()).collect();
        context.show(&Workspaces { workspaces })?;
        Ok(DONE)
    }
}
