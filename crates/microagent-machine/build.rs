//! Builds the guest agent, so that it can be embedded.
//!
//! The agent is a program of its own for a place of its own: static, small, and untouched by how the rest is being built.
//! Neither the flags nor the wrappers of the outer build reach it, whether that is a release build, clippy or coverage.
//! When neither the agent nor the protocol has changed, none of this runs.

use sha2::{Digest, Sha256};
use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "microagent-guest";

/// Chooses another target than the outer build's: one with musl makes the agent smaller, where it is installed.
const TARGET: &str = "MICROAGENT_GUEST_TARGET";

/// A root file system may hold no loader, and PID 1 has no use for random addresses of its own code.
const FLAGS: &str = "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static";

/// What an outer build may set and the agent's must not see. Flags in `CARGO_ENCODED_RUSTFLAGS` take the place of all others.
const NOT_INHERITED: [&str; 7] = [
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_INCREMENTAL",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
];

fn main() {
    let workspace = workspace_root();
    watch(&workspace);
    let agent = build_agent(&workspace);
    let content = std::fs::read(&agent).unwrap_or_else(|error| panic!("cannot read `{}`: {error}", agent.display()));
    println!("cargo::rustc-env=MICROAGENT_AGENT={}", agent.display());
    println!("cargo::rustc-env=MICROAGENT_AGENT_SHA256={}", hexadecimal(&Sha256::digest(content)));
}

fn workspace_root() -> PathBuf {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).expect("this package lies two levels below its workspace");
    root.to_owned()
}

fn watch(workspace: &Path) {
    println!("cargo::rerun-if-env-changed={TARGET}");
    for source in [
        "Cargo.lock",
        "Cargo.toml",
        "crates/microagent-guest/Cargo.toml",
        "crates/microagent-guest/src",
        "crates/microagent-machine/build.rs",
        "crates/microagent-protocol/Cargo.toml",
        "crates/microagent-protocol/src",
        "crates/microagent-tar/Cargo.toml",
        "crates/microagent-tar/src",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
}

fn build_agent(workspace: &Path) -> PathBuf {
    let target = env::var(TARGET).unwrap_or_else(|_| variable("TARGET"));
    let directory = PathBuf::from(variable("OUT_DIR")).join("agent");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--package", PACKAGE, "--profile", "guest", "--target", &target, "--target-dir"])
        .arg(&directory)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS);
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot run cargo to build `{PACKAGE}`: {error}"));
    assert!(status.success(), "building `{PACKAGE}` for `{target}` failed with {status}; its messages are above");
    directory.join(target).join("guest").join(PACKAGE)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo sets `{name}` for build scripts: {error}"))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
