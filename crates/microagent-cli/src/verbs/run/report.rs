//! What is said about a run afterwards.

use crate::output::labelled;
use crate::verbs::status::resources;
use microagent::RunReport;
use std::io::{self, Write};

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
