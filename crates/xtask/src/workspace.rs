//! Where things are: this clone, its cache, and the programs built from it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result, tool};

/// How the product is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As tests build it: quick to compile.
    Debug,
    /// As users get it: what is demonstrated and measured.
    Release,
}

/// The root of this clone.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// The directory `name` for things that are slow to make and can be made again: `.cache` in this clone, or
/// `$MICROAGENT_TEST_CACHE`. It exists afterwards.
pub fn cache(name: &str) -> Result<PathBuf> {
    let cache = env::var_os("MICROAGENT_TEST_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from);
    let directory = cache.join(name);
    fs::create_dir_all(&directory).map_err(Error::file("create", &directory))?;
    Ok(directory)
}

/// Builds the `microagent` program, which is quick when nothing changed, and returns its path.
pub fn microagent(build: Build) -> Result<PathBuf> {
    let (directory, options): (_, &[_]) = match build {
        // The whole workspace chooses the features of dependencies, as in a run of all tests: what those built is used.
        Build::Debug => ("debug", &["--workspace"]),
        Build::Release => ("release", &["--package", "microagent-cli", "--release"]),
    };
    let mut command = cargo();
    command.args(["build", "--bin", "microagent"]).args(options);
    tool::show(&mut command)?;
    Ok(target().join(directory).join("microagent"))
}

/// What cargo tells a program or a test that it runs about the package it is from.
const OF_THIS_PACKAGE: [&str; 4] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// A `cargo` command, to be run in this clone.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    // Some build scripts watch these variables: with ours in place of none, half of the dependencies are built again.
    let is_ours = |name: &str| OF_THIS_PACKAGE.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
