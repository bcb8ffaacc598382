//! `microagent doctor`

use super::{Action, DONE, FOUND_WRONG};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use anstyle::{AnsiColor, Style};
use microagent::{Check, CheckStatus, Doctor, Verdict};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent doctor
  microagent --json doctor

Exit status: 0 when machines run here, 1 when they do not.";

/// Check whether this host can run microVMs, and how
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let doctor = context.client()?.doctor();
        context.show(&doctor)?;
        Ok(if doctor.verdict == Verdict::Failed { FOUND_WRONG } else { DONE })
    }
}

impl Text for Doctor {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Check { name, status, detail, fix } in &self.checks {
            let (mark, colour) = match status {
                CheckStatus::Ok => ('✓', AnsiColor::Green),
                CheckStatus::Warning => ('⚠', AnsiColor::Yellow),
                CheckStatus::Failed => ('✗', AnsiColor::Red),
            };
            let style = Style::new().fg_color(Some(colour.into()));
            writeln!(out, "{style}{mark}{style:#} {name:width$}  {detail}")?;
            if let Some(fix) = fix {
                writeln!(out, "  {:width$}  fix: {fix}", "")?;
            }
        }
        writeln!(out, "\n{}", sentence(self))
    }
}

fn sentence(doctor: &Doctor) -> String {
    let with = match (doctor.engine, doctor.backend) {
        (Some(engine), Some(backend)) => format!(" with {engine} on {backend}"),
        _ => String::new(),
    };
    match doctor.verdict {
        Verdict::Ok => format!("This host runs microVMs{with}."),
        Verdict::Degraded => format!("This host runs microVMs{with}; what is marked ⚠ could be better."),
        Verdict::Failed => "This host cannot run microVMs: what is marked ✗ has to be mended first.".to_owned(),
    }
}
