//! `microagent perf ready`

use super::subject::SubjectArgs;
use super::{Action, show, status};
use crate::context::Context;
use crate::error::Error;
use clap::ValueEnum;
use microagent::Templates;

const EXAMPLES: &str = "\
Examples:
  microagent perf ready --image docker.io/library/alpine:3.20
  microagent perf ready --image docker.io/library/alpine:3.20 --exec 'sh -c :' --iterations 25
  microagent --json perf ready --image docker.io/library/alpine:3.20 --start cold

Exit status: 0 when every run completed, 1 when one failed; the failures are counted and
their times are not.";

/// Time whole runs as a user has them, after one that warms up
///
/// As `perf boot`, but machines are restored from a template, which the runs that warm up make if there is none. The start of each
/// iteration is in the JSON.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Shell command line to run; it must succeed
    #[arg(long, value_name = "COMMAND", default_value = "true", allow_hyphen_values = true)]
    exec: String,
    /// How machines come up: `warm` from a template, `cold` by booting
    #[arg(long, value_name = "HOW", default_value = "warm", hide_possible_values = true)]
    start: StartArg,
    /// How many runs come before those that are timed
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmups: u32,
    /// How many runs to time
    #[arg(long, value_name = "N", default_value_t = 9)]
    iterations: u32,
    #[command(flatten)]
    subject: SubjectArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StartArg {
    /// Boot
    Cold,
    /// Restore from a template
    Warm,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let templates = match self.start {
            StartArg::Cold => Templates::Off,
            StartArg::Warm => Templates::On,
        };
        let options = self.subject.options(&self.exec, templates);
        let measured = show(context, options.workspace.interrupt.clone(), |client| {
            client.perf_ready(&options, self.warmups, self.iterations)
        })?;
        Ok(status(measured.summary.failures))
    }
}
