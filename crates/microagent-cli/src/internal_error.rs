//! A bug in this program: said in one line, with a place to look, and never a backtrace nobody asked for.

use crate::failure;
use crate::output::Format;
use microagent::{FaultKind, FaultReport};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

/// `EX_SOFTWARE` of `sysexits.h`.
const STATUS: i32 = 70;

static FORMAT: OnceLock<Format> = OnceLock::new();

/// Makes every panic, on whatever thread, end the process with a message. A thread that panicked leaves the others waiting for it, so
/// there is nothing to go on with; the machine ends with the process.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        // Nobody is left to tell if this cannot be written.
        let _ = failure::show(&report(panic), FORMAT.get().copied().unwrap_or(Format::Text));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
        std::process::exit(STATUS);
    }));
}

/// Says how later panics are to be shown.
pub(crate) fn remember(format: Format) {
    // Set once, by `main`.
    let _ = FORMAT.set(format);
}

fn report(panic: &PanicHookInfo<'_>) -> FaultReport {
    let message = panic.payload_as_str().unwrap_or("no message").replace('\n', " ");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    FaultReport {
        code: "internal_error".to_owned(),
        kind: FaultKind::Internal,
        message: format!("internal error at {place}: {message}"),
        remediation: Some(
            "this is a bug in microagent: please report it, with the command line that led to it".to_owned(),
        ),
        retryable: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const VICTIM: &str = "internal_error::tests::victim";

    #[test]
    #[ignore = "ends its process; run by the other test"]
    fn victim() {
        install_hook();
        panic!("the moon\nfell down");
    }

    #[test]
    fn a_bug_is_told_in_one_line_with_its_place() {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        let victim = victim.args(["--exact", VICTIM, "--ignored", "--nocapture"]).env_remove("RUST_BACKTRACE");
        let output = victim.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(STATUS), "{stderr}");
        assert!(
            stderr.starts_with("Error: internal error at ") && stderr.contains(": the moon fell down\n"),
            "{stderr}"
        );
        assert!(stderr.contains("please report it") && stderr.lines().count() == 2, "{stderr}");
    }
}
