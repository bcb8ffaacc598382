//! `--timing`: where the time of a run went.

use microagent::{RunReport, Timing};
use std::io::{self, Write};

/// Writes the phases of a completed run to standard error: standard output is the guest's.
pub(super) fn tell_timing(report: &RunReport) -> io::Result<()> {
    write(&mut io::stderr().lock(), &report.timing)
}

fn write(out: &mut dyn Write, timing: &Timing) -> io::Result<()> {
    let phases = timing.phases();
    let width = phases.iter().map(|(phase, _)| phase.len()).max().unwrap_or(0);
    for (phase, milliseconds) in phases {
        let share = if timing.total_ms > 0.0 { milliseconds / timing.total_ms * 100.0 } else { 0.0 };
        writeln!(out, "{phase:width$} {milliseconds:9.1} ms {share:5.1} %")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_line_and_its_share() {
        let timing = Timing { command_ms: 25.0, total_ms: 100.0, ..Timing::default() };
        let mut out = Vec::new();
        write(&mut out, &timing).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = |phase: &str| {
            let line = text.lines().find(|line| line.starts_with(phase)).unwrap_or_else(|| panic!("{phase}: {text}"));
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        for (phase, _) in timing.phases() {
            line(phase);
        }
        assert_eq!(line("command"), ["command", "25.0", "ms", "25.0", "%"]);
        assert_eq!(line("total"), ["total", "100.0", "ms", "100.0", "%"]);
    }
}
