//! Builds the loader, so that it can be embedded.
//!
//! It is one file without a standard library, at an address of its own where no other program has anything: cargo has no way to say
//! that of one binary of a package, so the compiler is called directly.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "loader/main.rs";

fn main() {
    println!("cargo::rerun-if-changed=loader");
    println!("cargo::rerun-if-changed=src/format.rs");
    let loader = PathBuf::from(variable("OUT_DIR")).join("loader");
    let target = variable("TARGET");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args(["--edition=2024", "--crate-name=loader", "--crate-type=bin", "--target", &target])
        .args([
            "-Copt-level=2",
            "-Cpanic=abort",
            "-Crelocation-model=pic",
            "-Cstrip=symbols",
            "-Cforce-unwind-tables=no",
        ])
        .args(["-Clink-arg=-nostdlib", "-Clink-arg=-nostartfiles", "-Clink-arg=-static", "-Clink-arg=-no-pie"])
        .args(["-Clink-arg=-Wl,--image-base=0x300000000000", "-Clink-arg=-Wl,--build-id=none"])
        .arg("-o")
        .arg(&loader)
        .arg(SOURCE);
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run the compiler to build the loader: {error}"));
    assert!(status.success(), "building the loader for `{target}` failed with {status}; its messages are above");
    println!("cargo::rustc-env=MICROAGENT_LOADER={}", loader.display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo sets `{name}` for build scripts: {error}"))
}
