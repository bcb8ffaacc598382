//! `microagent perf footprint`

use super::subject::SubjectArgs;
use super::{Action, DONE, show};
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  microagent perf footprint --image docker.io/library/alpine:3.20
  microagent --json perf footprint --image docker.io/library/alpine:3.20 --count 10";

/// Measure the memory of machines that idle
///
/// Starts the machines at the same time, has each of them sleep, and reads the memory of their engine processes: the proportional share
/// (PSS), which adds up, the resident memory, and what each has written itself.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How many machines idle at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u32,
    #[command(flatten)]
    subject: SubjectArgs,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let options = self.subject.options("true", context.templates());
        show(context, options.workspace.interrupt.clone(), |client| client.perf_footprint(&options, self.count))?;
        Ok(DONE)
    }
}
