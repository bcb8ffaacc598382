//! `microagent volume create`

use super::{Action, DONE, volume_name};
use crate::context::Context;
use crate::error::Error;
use crate::quantity::parse_mib;
use microagent::DEFAULT_VOLUME_MIB;

const EXAMPLES: &str = "\
Examples:
  microagent volume create data
  microagent volume create cache --size-mib 20g";

/// Make an empty volume
///
/// It takes no space before something is written to it. Attach it with `-v NAME:/path`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the volume
    #[arg(value_name = "NAME")]
    name: String,
    /// Size, in MiB or with a unit as in `20g`
    #[arg(long, value_name = "MIB", value_parser = parse_mib, default_value_t = DEFAULT_VOLUME_MIB)]
    size_mib: u64,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = volume_name(&self.name)?;
        context.show(&context.client()?.create_volume(&name, self.size_mib)?)?;
        Ok(DONE)
    }
}
