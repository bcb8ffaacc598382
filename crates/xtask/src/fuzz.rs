//! `cargo xtask fuzz`: every fuzz target for a while, stopping at the first that finds something.

use std::process::Command;

use crate::{Error, Result, tool, workspace};

/// Runs each target in `fuzz/` for `seconds`.
pub fn run(seconds: u64) -> Result<()> {
    // The sanitizers that fuzzing rests on are not in stable Rust.
    if !tool::output(nightly().arg("--version"))?.status.success() {
        return Err(Error::Toolchain {
            what: "nightly Rust",
            command: "rustup toolchain install nightly --profile minimal",
        });
    }
    if !tool::is_installed("cargo-fuzz") {
        tool::show(Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let targets = tool::capture(nightly().args(["fuzz", "list"]))?;
    let time = format!("-max_total_time={seconds}");
    for target in targets.lines() {
        tool::show(nightly().args(["fuzz", "run", target, "--", &time, "-print_funcs=0", "-print_final_stats=1"]))?;
    }
    Ok(())
}

fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(workspace::root());
    command
}
