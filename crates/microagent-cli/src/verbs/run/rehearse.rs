//! What goes on after a run: its template rehearses, in a process of its own.

use super::Args;
use crate::context::Context;
use microagent::machine::engine::leave_behind;
use microagent::{RunReport, Start};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Names the engine program.
const ENGINE: &str = "MICROAGENT_QEMU";

/// Starts it where the run's machine came from a template that could be better. It outlives this process, which does not wait for it, and
/// takes a few seconds of a processor that has nothing else to do. Who is second finds a lock and ends.
pub(super) fn rehearse_template(args: &Args, report: &RunReport, context: &Context) {
    let would_help = report.can_rehearse && !report.rehearsed && report.start != Start::Cold;
    let Ok(program) = std::env::current_exe() else { return };
    if !context.rehearses() || !would_help {
        return;
    }
    let mut command = Command::new(program);
    command.arg("--state-dir").arg(&report.state_dir).args(["template", "prepare", "--background"]);
    command.args(["--profile", &report.profile, "--backend", &report.response.backend]);
    command.args(["--network", &report.network]);
    command.args(["--memory", &report.resources.memory_mib.to_string()]);
    command.args(["--cpus", &report.resources.cpu_count.to_string()]);
    pass_on(&mut command, "--kernel", args.definition.machine.kernel.as_deref());
    pass_on(&mut command, "--guest-init", args.definition.machine.guest_init.as_deref());
    if let Some(engine) = std::env::var_os(ENGINE).filter(|engine| engine.as_encoded_bytes().contains(&b'/')) {
        command.env(ENGINE, std::path::absolute(&engine).unwrap_or_else(|_| engine.into()));
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    leave_behind(&mut command);
    // Without it, later runs are what this one was.
    let _ = command.spawn();
}

fn pass_on(command: &mut Command, flag: &str, path: Option<&Path>) {
    // The other process works elsewhere.
    if let Some(path) = path.and_then(|path| std::path::absolute(path).ok()) {
        command.args([OsStr::new(flag), path.as_os_str()]);
    }
}
