//! What is said about a run afterwards.

use crate::lines::plain;
use crate::output::labelled;
use crate::verbs::status::resources;
use microagent::RunReport;
use microagent::egress::Summary;
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
    for port in &report.ports {
        writeln!(out, "Port: {} -> {}", port.listens(), port.guest_port)?;
    }
    if let Some(note) = &report.learn_note {
        writeln!(out, "note: {note}")?;
    }
    if let Some(egress) = report.egress.as_ref().filter(|egress| **egress != Summary::default()) {
        tell_egress(egress, &mut out)?;
    }
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

/// What went out and what did not; of that, which hosts.
fn tell_egress(egress: &Summary, out: &mut impl Write) -> io::Result<()> {
    write!(out, "Egress: {} allowed, {} denied", egress.allowed, egress.denied)?;
    if egress.swapped > 0 {
        write!(out, ", {} with a credential put in", egress.swapped)?;
    }
    writeln!(out)?;
    for (host, times) in &egress.denied_hosts {
        writeln!(out, "note: denied {times}x: {}", plain(host))?;
    }
    Ok(())
}
