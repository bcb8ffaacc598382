//! `microagent volume resize`

use super::{Action, DONE, volume_name};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::quantity::parse_mib;
use clap_complete::ArgValueCandidates;

const EXAMPLES: &str = "\
Examples:
  microagent volume resize data --size-mib 20g";

/// Make a volume larger that no workspace has
///
/// Its file system grows when a workspace next has it to write to.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the volume
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::volumes))]
    name: String,
    /// The new size, in MiB or with a unit as in `20g`
    #[arg(long, value_name = "MIB", value_parser = parse_mib)]
    size_mib: u64,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = volume_name(&self.name)?;
        context.show(&context.client()?.resize_volume(&name, self.size_mib)?)?;
        Ok(DONE)
    }
}
