//! `microagent volume inspect`

use super::{Action, DONE, volume_name};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use clap_complete::ArgValueCandidates;

const EXAMPLES: &str = "\
Examples:
  microagent volume inspect data
  microagent --json volume status data";

/// Show what is known of a volume: its size, what it takes, and who has it
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the volume
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::volumes))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&context.client()?.volume(&volume_name(&self.name)?)?)?;
        Ok(DONE)
    }
}
