//! `microagent perf`

mod boot;
mod exec;
mod footprint;
mod ready;
mod steady;
mod subject;
mod text;

use super::{Action, DONE, FOUND_WRONG};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::signals::Signals;
use clap::Subcommand;
use microagent::{Client, Interrupt};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  microagent perf ready --image docker.io/library/alpine:3.20
  microagent perf boot --image docker.io/library/alpine:3.20 --iterations 9
  microagent --json perf footprint --image docker.io/library/alpine:3.20 --count 10";

/// Measure this host: runs, commands, memory
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Boot(boot::Args),
    Ready(ready::Args),
    Exec(exec::Args),
    Footprint(footprint::Args),
    Steady(steady::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match self.verb {
            Verb::Boot(args) => args.run(context),
            Verb::Ready(args) => args.run(context),
            Verb::Exec(args) => args.run(context),
            Verb::Footprint(args) => args.run(context),
            Verb::Steady(args) => args.run(context),
        }
    }
}

/// Measures until it is done or a signal stops it, and shows the result.
fn show<T: Serialize + Text>(
    context: &Context,
    interrupt: Interrupt,
    measure: impl FnOnce(&Client) -> Result<T, microagent::Error>,
) -> Result<T, Error> {
    let signals = Signals::watch(move || interrupt.stop())?;
    let client = context.client()?;
    let outcome = measure(&client).map_err(Error::from);
    // Ends the progress line before the result is printed.
    drop(client);
    let result = signals.judge(outcome)?;
    context.show(&result)?;
    Ok(result)
}

/// The exit status of a measurement in which `failures` iterations failed.
fn status(failures: usize) -> u8 {
    if failures == 0 { DONE } else { FOUND_WRONG }
}
