//! `cargo xtask test` and `cargo xtask lint`: everything that must pass before a change lands.

use std::process::Command;

use crate::images::RECIPES;
use crate::kvm_lab::Lab;
use crate::packages::Purpose;
use crate::{Result, setup, tool, workspace};

/// Linters that cargo installs, in the versions that this repository is checked with. What has no other way to
/// get here is built without optimisation: it takes half the time, and each runs for a second or two.
const LINTERS: [(&str, &str); 2] = [("cargo-deny", "0.20.2"), ("cargo-machete", "0.9.2")];

/// Runs every test, after installing and making what they need.
pub fn test() -> Result<()> {
    setup::run(Purpose::All)?;
    // Made here, so that tests which run at the same time do not each make their own.
    for recipe in RECIPES {
        recipe.prepare()?;
    }
    Lab::prepare()?;
    let runner: &[&str] =
        if tool::is_installed("cargo-nextest") { &["nextest", "run"] } else { &["test", "--all-targets"] };
    tool::show(workspace::cargo().args(runner).arg("--workspace"))?;
    tool::show(workspace::cargo().args(["test", "--workspace", "--doc"]))
}

/// Checks format, lints, documentation, licences, sources and unused dependencies.
pub fn lint() -> Result<()> {
    tool::show(workspace::cargo().args(["fmt", "--all", "--check"]))?;
    tool::show(workspace::cargo().args(["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]))?;
    tool::show(workspace::cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    let mut doc = workspace::cargo();
    doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
    tool::show(&mut doc)?;
    for (linter, version) in LINTERS {
        install(linter, version)?;
    }
    // The database of advisories is a repository of its own, which a build host need not be able to reach.
    tool::show(workspace::cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    tool::show(workspace::cargo().args(["machete"]))
}

/// Builds a linter from its package if there is none.
fn install(linter: &str, version: &str) -> Result<()> {
    if tool::is_installed(linter) {
        return Ok(());
    }
    let package = format!("{linter}@{version}");
    tool::show(Command::new("cargo").args(["install", "--locked", "--debug", &package]))
}
