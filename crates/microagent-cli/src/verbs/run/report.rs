//! What is said about a run: the summary afterwards, or the plan instead.

use crate::output::{Text, labelled};
use crate::verbs::status::resources;
use microagent::{Plan, PlannedCommand, RunReport};
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// Writes the summary of a completed run to standard error: standard output is the guest's.
pub(super) fn summarise(report: &RunReport) -> io::Result<()> {
    let mut out = io::stderr().lock();
    labelled(
        &mut out,
        &[
            ("Workspace", report.workspace.to_string()),
            ("State", report.final_state.to_string()),
            ("Profile", report.profile.clone()),
            ("Network", report.network.clone()),
            ("Resources", resources(report.resources)),
            ("Exit code", report.result.exit_code.to_string()),
        ],
    )?;
    if report.result.out_of_memory {
        writeln!(out, "note: the guest ran out of memory and killed a process; give it more with `--memory`")?;
    }
    if let Some(note) = &report.template_note {
        writeln!(out, "note: {note}")?;
    }
    if report.kept {
        let name = &report.workspace;
        writeln!(out, "note: kept; see `microagent status {name}` and `microagent logs {name}`")?;
        writeln!(out, "note: remove it with `microagent delete {name} --yes`")?;
    }
    Ok(())
}

/// What `--dry-run` shows.
#[derive(Serialize)]
pub(super) struct Planned {
    pub(super) plan: Plan,
}

impl Text for Planned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let plan = &self.plan;
        let command = match &plan.command {
            PlannedCommand::Argv(words) => format!("{words:?}"),
            PlannedCommand::ImageEntrypoint(words) if words.is_empty() => {
                "the image's entry point and command".to_owned()
            }
            PlannedCommand::ImageEntrypoint(words) => format!("the image's entry point, then {words:?}"),
        };
        labelled(
            out,
            &[
                ("Workspace", plan.workspace.to_string()),
                ("Image", plan.image.familiar()),
                ("Platform", plan.platform.to_string()),
                ("Profile", plan.profile.to_owned()),
                ("Network", plan.network.to_owned()),
                ("Resources", resources(plan.resources)),
                ("Restart", plan.restart.clone()),
                ("Hostname", plan.hostname.clone()),
                ("Command", command),
                ("Keep", if plan.keep { "yes" } else { "no" }.to_owned()),
            ],
        )?;
        plan.setup.iter().try_for_each(|line| writeln!(out, "Setup: {}", line.trim_end()))?;
        plan.env.keys().try_for_each(|key| writeln!(out, "Env: {key}"))?;
        plan.timeout_ms.iter().try_for_each(|&ms| writeln!(out, "Timeout: {:?}", Duration::from_millis(ms)))?;
        writeln!(out, "Nothing was done: this is what `run` would do.")
    }
}
