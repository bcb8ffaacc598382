//! `microagent run`
//!
//! | file | idea |
//! |---|---|
//! | `arguments` | the flags, and the one rule they follow: exactly one source of the command |
//! | `streams` | the guest's output on our own, byte for byte |
//! | `planned` | what `--dry-run` shows |
//! | `report`, `timing` | what is said afterwards |
//! | `rehearse` | what is done afterwards, in the background |

mod arguments;
pub(in crate::verbs) mod planned;
mod rehearse;
mod report;
pub(in crate::verbs) mod streams;
mod timing;

pub(crate) use arguments::Args;

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Format};
use crate::signals::Signals;
use microagent::{Plan, RunIo, RunReport, Templates};
use planned::Planned;
use rehearse::rehearse_template;
use report::summarise;
use streams::Outputs;
use timing::tell_timing;

/// Why a flag of the contract changes nothing here.
const RESULT_PORT_NOTE: &str =
    "`--result-port` changes nothing: results travel over the agent channel, which needs no port";

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        self.refused.check()?;
        let mut options = self.options()?;
        options.workspace.templates = if self.definition.machine.cold { Templates::Off } else { context.templates() };
        if self.result_port.is_some() {
            output::note(RESULT_PORT_NOTE);
        }
        if self.supervisor.is_some() {
            output::note(output::SUPERVISOR_NOTE);
        }
        if self.dry_run {
            context.show(&Planned::of_run(Plan::of_run(&options)?))?;
            return Ok(DONE);
        }
        let interrupt = options.workspace.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let outputs = Outputs::new();
        let mut io = RunIo::default();
        if self.stdin {
            io.stdin = Some(streams::stdin()?);
        }
        if context.format() == Format::Text {
            io.stdout = Some(outputs.stdout()?);
            io.stderr = Some(outputs.stderr()?);
        }
        let client = context.client()?;
        let outcome = client.run(&options, io).map_err(Error::from);
        // Ends the progress line, whatever the run got to.
        drop(client);
        outputs.end_line();
        let report = signals.judge(outcome)?;
        rehearse_template(&self, &report, context);
        self.show(&report, context)?;
        Ok(if self.propagates_exit_code(context) { exit_status(&report) } else { DONE })
    }
}

impl Args {
    /// Whether the exit status is to be the guest's.
    pub(crate) fn propagates_exit_code(&self, context: &Context) -> bool {
        self.propagate_exit_code || context.propagate_exit_code()
    }

    fn show(&self, report: &RunReport, context: &Context) -> Result<(), Error> {
        match context.format() {
            Format::Text => {
                if !self.quiet {
                    // Nobody reading the summary does not change how the command ended.
                    let _ = summarise(report);
                }
                if self.timing {
                    let _ = tell_timing(report);
                }
                Ok(())
            }
            json => output::show_json(report, json),
        }
    }
}

/// The guest's exit code as far as a process can pass it on.
fn exit_status(report: &RunReport) -> u8 {
    u8::try_from(report.result.exit_code & 0xff).unwrap_or(u8::MAX)
}
