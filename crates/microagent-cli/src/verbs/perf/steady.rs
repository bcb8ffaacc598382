//! `microagent perf steady`

use super::subject::SubjectArgs;
use super::{Action, DONE, show};
use crate::context::Context;
use crate::error::Error;
use crate::quantity;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  microagent perf steady --image docker.io/library/alpine:3.20
  microagent --json perf steady --image docker.io/library/alpine:3.20 --duration 1m --interval 5s";

/// Watch a machine that idles: its memory and processor time
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How long to watch, in seconds, or a time as in `10s` or `2m`
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = quantity::parse_duration)]
    duration: Duration,
    /// How often to look, in seconds, or a time as in `500ms` or `5s`
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = quantity::parse_duration)]
    interval: Duration,
    #[command(flatten)]
    subject: SubjectArgs,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let options = self.subject.options("true", context.templates());
        show(context, options.workspace.interrupt.clone(), |client| {
            client.perf_steady(&options, self.duration, self.interval)
        })?;
        Ok(DONE)
    }
}
