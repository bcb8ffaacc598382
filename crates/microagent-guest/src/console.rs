//! The guest's console: the place of last resort for what the agent has to say.
//!
//! The host keeps it in `serial.log`. It is an emulated serial port, slow by the byte, so the agent writes a line there only
//! when something is wrong.

use rustix::system::{RebootCommand, reboot};
use std::fmt::Display;
use std::io::Write;
use std::panic;

/// Writes one line.
pub(crate) fn say(what: impl Display) {
    // Nobody is left to be told when the console itself fails.
    let _ = writeln!(std::io::stderr(), "microagent-guest: {what}");
}

/// Ends the machine: the engine runs with resets turned off, and exits.
pub(crate) fn end_machine() -> ! {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::Restart);
    // Only a process without the right to reboot gets here; the kernel panics when PID 1 ends, and the engine exits too.
    std::process::exit(1)
}

/// Makes a panic of PID 1 end the machine with its reason on the console.
pub(crate) fn end_machine_on_panic() {
    panic::set_hook(Box::new(|panic| {
        say(format_args!("internal error, please report: {panic}"));
        // A command that is about to start shares this hook and must not take the machine with it.
        if rustix::process::getpid().is_init() {
            end_machine();
        }
    }));
}
