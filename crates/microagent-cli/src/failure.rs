//! How a failure looks, and the exit status it becomes.

use crate::error::Error;
use crate::output::Format;
use anstyle::{AnsiColor, Style};
use microagent::{Fault, FaultKind, FaultReport};
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// `EX_TEMPFAIL` of `sysexits.h`.
const RETRYABLE: u8 = 75;
/// What container engines use for failures of their own, so that the guest's exit codes keep their meaning.
const OURS: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Shells report a death by signal as this plus its number.
const SIGNALLED: u8 = 128;
const SIGINT: u8 = 2;

/// The error object of `--json`.
#[derive(Serialize)]
struct JsonError<'a> {
    error: &'a FaultReport,
}

/// The failure envelope of `--mode ax`.
#[derive(Serialize)]
struct Envelope<'a> {
    ok: bool,
    error: EnvelopeError<'a>,
}

#[derive(Serialize)]
struct EnvelopeError<'a> {
    #[serde(flatten)]
    report: &'a FaultReport,
    correlation_id: String,
}

/// Shows `error` and returns the exit status. With `propagate`, the status must not be taken for the guest's.
pub(crate) fn finish(error: &Error, format: Format, propagate: bool) -> ExitCode {
    if matches!(error, Error::Output(source) if source.kind() == ErrorKind::BrokenPipe) {
        // The reader, as in `| head`, has seen enough.
        return ExitCode::SUCCESS;
    }
    // If even this cannot be written there is nobody left to tell.
    let _ = show(&FaultReport::new(error), format);
    ExitCode::from(status(error, propagate))
}

/// Shows `report` the way `format` asks for.
pub(crate) fn show(report: &FaultReport, format: Format) -> std::io::Result<()> {
    match format {
        Format::Text => show_text(report),
        Format::Json => {
            let line = serde_json::to_string(&JsonError { error: report })?;
            writeln!(std::io::stderr(), "{line}")
        }
        Format::Envelope => {
            let error = EnvelopeError { report, correlation_id: correlation_id() };
            let line = serde_json::to_string(&Envelope { ok: false, error })?;
            writeln!(std::io::stdout(), "{line}")
        }
    }
}

fn show_text(report: &FaultReport) -> std::io::Result<()> {
    let error = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let hint = Style::new().fg_color(Some(AnsiColor::Cyan.into()));
    let mut out = anstream::stderr().lock();
    writeln!(out, "{error}Error:{error:#} {}", report.message)?;
    for line in report.remediation.iter().flat_map(|remediation| remediation.lines()) {
        writeln!(out, "  {hint}hint:{hint:#} {line}")?;
    }
    Ok(())
}

fn status(error: &Error, propagate: bool) -> u8 {
    let signalled = |signal: i32| SIGNALLED + u8::try_from(signal).unwrap_or(SIGINT);
    match error {
        Error::Interrupted { signal } => signalled(*signal),
        _ if error.code() == "interrupted" => SIGNALLED + SIGINT,
        _ if propagate => match error.code() {
            "command_not_executable" => NOT_EXECUTABLE,
            "command_not_found" => NOT_FOUND,
            _ => OURS,
        },
        // Asking for what there is not is a mistake on the command line or in a file, whoever tells it.
        _ if matches!(error.code(), "not_supported_yet" | "unsupported_container_option") => USAGE,
        _ if error.kind() == FaultKind::Usage => USAGE,
        _ if error.retryable() => RETRYABLE,
        _ => FAILED,
    }
}

/// Enough bits that no two of them meet in one log.
fn correlation_id() -> String {
    let mut bytes = [0; size_of::<u64>()];
    // Without entropy the id is all zeros: useless, and no reason to hide the error it belongs to.
    let _ = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn each_kind_of_failure_has_its_exit_status() {
        let not_yet = || Error::NotSupportedYet { what: "x".into(), hint: String::new() };
        let cases = [
            (Error::usage("x", "y"), 2, 125),
            (not_yet(), 2, 125),
            (Error::System { doing: "x", source: io::Error::other("y") }, 1, 125),
            (Error::Interrupted { signal: 2 }, 130, 130),
            (Error::Interrupted { signal: 15 }, 143, 143),
            (Error::Library(microagent::Error::Interrupted), 130, 130),
            (microagent::image::Error::RateLimited { host: "x".into(), retry_after: None }.into(), 75, 125),
        ];
        for (error, plain, propagated) in cases {
            assert_eq!((status(&error, false), status(&error, true)), (plain, propagated), "{error}");
        }
    }
}
