//! `microagent perf exec`

use super::subject::SubjectArgs;
use super::{Action, DONE, show};
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  microagent perf exec --image docker.io/library/alpine:3.20
  microagent --json perf exec --image docker.io/library/alpine:3.20 --iterations 200";

/// Time commands in one machine, against processes that the guest starts itself
///
/// Each iteration is one round trip of `/bin/sh -c COMMAND` in a machine that is up. The same is then done in a loop of the guest's own
/// shell, by the guest's clock; the ratio compares the median round trip with that.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Shell command line to run; it must succeed
    #[arg(long, value_name = "COMMAND", default_value = "true", allow_hyphen_values = true)]
    exec: String,
    /// How many round trips to time
    #[arg(long, value_name = "N", default_value_t = 50)]
    iterations: u32,
    #[command(flatten)]
    subject: SubjectArgs,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let options = self.subject.options(&self.exec, context.templates());
        show(context, options.workspace.interrupt.clone(), |client| client.perf_exec(&options, self.iterations))?;
        Ok(DONE)
    }
}
