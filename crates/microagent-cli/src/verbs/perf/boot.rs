//! `microagent perf boot`

use super::subject::SubjectArgs;
use super::{Action, show, status};
use crate::context::Context;
use crate::error::Error;
use microagent::Templates;

const EXAMPLES: &str = "\
Examples:
  microagent perf boot --image docker.io/library/alpine:3.20
  microagent --json perf boot --image docker.io/library/alpine:3.20 --profile tiny --iterations 9

Exit status: 0 when every run completed, 1 when one failed; the failures are counted and
their times are not.";

/// Time whole runs that boot their kernel, without templates
///
/// Each iteration is one disposable run, from the library's call to its return, with the image and the kernel already here. Percentiles
/// are by nearest rank: each is one of the times measured.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Shell command line to run; it must succeed
    #[arg(long, value_name = "COMMAND", default_value = "true", allow_hyphen_values = true)]
    exec: String,
    /// How many runs to time
    #[arg(long, value_name = "N", default_value_t = 5)]
    iterations: u32,
    #[command(flatten)]
    subject: SubjectArgs,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let options = self.subject.options(&self.exec, Templates::Off);
        let measured =
            show(context, options.workspace.interrupt.clone(), |client| client.perf_boot(&options, self.iterations))?;
        Ok(status(measured.summary.failures))
    }
}
