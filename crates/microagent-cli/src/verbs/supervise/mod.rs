//! `microagent supervise`

mod unit;

use super::{Action, DONE, FOUND_WRONG};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{self, Format, Text, labelled};
use crate::quantity;
use crate::signals::Signals;
use clap_complete::ArgValueCandidates;
use microagent::{Name, Phase, StartOptions, SuperviseOptions, Supervised, SupervisedEvent, Templates};
use std::io::{self, Write};
use std::time::Duration;
use unit::Unit;

const EXAMPLES: &str = "\
Examples:
  microagent supervise research
  microagent supervise research --max-restarts 5
  microagent supervise research --install
  microagent supervise research --uninstall

Exit status: 0 when the workspace stays down as it should, 1 when it failed and stays down.";

/// Keep a workspace up, as its restart policy says
///
/// Starts the workspace if it does not run, and starts it again when it ends: always, after a failure, or never. The pause before a
/// restart begins at a second and doubles up to a minute. Health probes are made meanwhile; a workspace that fails too many is killed,
/// which counts as a failure. A workspace that is halted or killed on request stays down, whatever its policy. SIGTERM and Ctrl-C halt
/// the workspace; the second one kills it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Time between two health probes, instead of what the workspace says
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    interval: Option<Duration>,
    /// Most restarts; 0 is any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_restarts: u32,
    /// Boot the kernel, without using or making a template [env: MICROAGENT_TEMPLATES=off]
    #[arg(long)]
    cold: bool,
    /// Write a systemd user unit that does this, instead of doing it
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Remove that unit
    #[arg(long)]
    uninstall: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        if self.install || self.uninstall {
            return self.manage_unit(&name, context);
        }
        let options = SuperviseOptions {
            start: StartOptions {
                templates: if self.cold { Templates::Off } else { context.templates() },
                reason: Some("supervised".to_owned()),
                supervisor: context.supervisor(),
                ..StartOptions::default()
            },
            interval: self.interval,
            max_restarts: (self.max_restarts > 0).then_some(self.max_restarts),
        };
        let interrupt = options.start.interrupt.clone();
        let _signals = Signals::watch(move || interrupt.stop())?;
        let text = context.format() == Format::Text;
        let supervised = context.client()?.supervise(&name, &options, |event| {
            if text {
                output::note(&told(&name, event));
            }
        })?;
        let failed = supervised.state == Phase::Failed;
        context.show(&supervised)?;
        Ok(if failed { FOUND_WRONG } else { DONE })
    }
}

impl Args {
    fn manage_unit(&self, name: &Name, context: &Context) -> Result<u8, Error> {
        let client = context.client()?;
        let unit = Unit::new(name, client.state().root())?;
        if self.uninstall {
            context.show(&unit.remove()?)?;
            return Ok(DONE);
        }
        // A unit for a workspace that is not there would fail again and again.
        client.record(name)?;
        context.show(&unit.install(self.max_restarts)?)?;
        Ok(DONE)
    }
}

fn told(name: &Name, event: &SupervisedEvent) -> String {
    match event {
        SupervisedEvent::Running => format!("`{name}` runs"),
        SupervisedEvent::Ended { state } => format!("`{name}` is {state}"),
        SupervisedEvent::NotStarted { error } => format!("`{name}` did not start: {error}"),
        SupervisedEvent::Unhealthy { failures } => {
            format!("`{name}` is killed: {failures} health probes failed in a row")
        }
        SupervisedEvent::Restarting { restarts, pause_ms } => {
            format!("`{name}` is started again in {:?} (restart {restarts})", Duration::from_millis(*pause_ms))
        }
    }
}

impl Text for Supervised {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Workspace", self.workspace.to_string()),
                ("State", self.state.to_string()),
                ("Restarts", self.restarts.to_string()),
            ],
        )
    }
}
