//! The engine programs of this host: where they are and what version they are.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// Names QEMU, before `PATH` is searched.
const QEMU_VARIABLE: &str = "MICROAGENT_QEMU";
/// Names Firecracker, before `PATH` is searched.
const FIRECRACKER_VARIABLE: &str = "MICROAGENT_FIRECRACKER";
const FIRECRACKER: &str = "firecracker";
#[cfg(target_arch = "x86_64")]
const QEMU: &str = "qemu-system-x86_64";
#[cfg(not(target_arch = "x86_64"))]
const QEMU: &str = "qemu-system-aarch64";

/// What QEMU this host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum QemuVerdict {
    /// It runs.
    Found {
        /// The program.
        path: PathBuf,
        /// As it prints it, for instance `7.2.22`.
        version: String,
        /// It was built with the machine `microvm`.
        microvm: bool,
    },
    /// It is not there.
    Missing {
        /// What to do about it.
        hint: String,
    },
    /// It is there and cannot tell its version.
    Failed {
        /// The program.
        path: PathBuf,
        /// What happened.
        error: String,
    },
}

/// What Firecracker this host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum FirecrackerVerdict {
    /// It runs.
    Found {
        /// The program.
        path: PathBuf,
        /// As it prints it, for instance `1.15.1`.
        version: String,
    },
    /// It is not there.
    Missing {
        /// What to do about it.
        hint: String,
    },
    /// It is there and cannot tell its version.
    Failed {
        /// The program.
        path: PathBuf,
        /// What happened.
        error: String,
    },
}

impl fmt::Display for QemuVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QemuVerdict::Found { path, version, microvm: true } => write!(f, "QEMU {version} at `{}`", path.display()),
            QemuVerdict::Found { path, version, microvm: false } => {
                write!(f, "QEMU {version} at `{}` was built without the machine `microvm`", path.display())
            }
            QemuVerdict::Missing { .. } => write!(f, "`{QEMU}` was not found"),
            QemuVerdict::Failed { path, error } => write!(f, "`{}` does not run: {error}", path.display()),
        }
    }
}

impl fmt::Display for FirecrackerVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FirecrackerVerdict::Found { path, version } => write!(f, "Firecracker {version} at `{}`", path.display()),
            FirecrackerVerdict::Missing { .. } => write!(f, "`{FIRECRACKER}` was not found"),
            FirecrackerVerdict::Failed { path, error } => write!(f, "`{}` does not run: {error}", path.display()),
        }
    }
}

/// Looks for QEMU where `MICROAGENT_QEMU` says, else in `PATH`, and asks it what it is.
pub fn probe_qemu() -> QemuVerdict {
    match find_qemu() {
        Ok(path) => ask_qemu(path),
        Err(hint) => QemuVerdict::Missing { hint },
    }
}

/// Looks for Firecracker where `MICROAGENT_FIRECRACKER` says, else in `PATH`, and asks it what it is.
pub fn probe_firecracker() -> FirecrackerVerdict {
    match find_firecracker() {
        Ok(path) => ask_firecracker(path),
        Err(hint) => FirecrackerVerdict::Missing { hint },
    }
}

/// Where QEMU is, or what to do to have it.
pub(super) fn find_qemu() -> Result<PathBuf, String> {
    find(QEMU_VARIABLE, QEMU).map_err(|not_there| {
        not_there.unwrap_or_else(|| {
            let packages = [
                ("apt-get", "qemu-system-x86"),
                ("dnf", "qemu-system-x86-core"),
                ("zypper", "qemu-x86"),
                ("pacman", "qemu-base"),
            ];
            match packages.into_iter().find(|(manager, _)| search_path(manager).is_some()) {
                Some(("pacman", package)) => format!("run `sudo pacman -S {package}`"),
                Some((manager, package)) => format!("run `sudo {manager} install {package}`"),
                None => format!("install QEMU, or set `{QEMU_VARIABLE}` to its path"),
            }
        })
    })
}

/// Where Firecracker is, or what to do to have it.
pub(super) fn find_firecracker() -> Result<PathBuf, String> {
    find(FIRECRACKER_VARIABLE, FIRECRACKER).map_err(|not_there| {
        not_there.unwrap_or_else(|| {
            format!("put a release of Firecracker into `PATH`, or set `{FIRECRACKER_VARIABLE}` to its path")
        })
    })
}

/// Asks the QEMU at `path` for its version and machines.
pub(super) fn ask_qemu(path: PathBuf) -> QemuVerdict {
    let asked = ask(&path, &["--version"], "version ").and_then(|version| {
        Ok((version, output(&path, &["-machine", "help"])?.lines().any(|line| line.starts_with("microvm"))))
    });
    match asked {
        Ok((version, microvm)) => QemuVerdict::Found { path, version, microvm },
        Err(error) => QemuVerdict::Failed { path, error },
    }
}

/// Asks the Firecracker at `path` for its version.
pub(super) fn ask_firecracker(path: PathBuf) -> FirecrackerVerdict {
    match ask(&path, &["--version"], "Firecracker v") {
        Ok(version) => FirecrackerVerdict::Found { path, version },
        Err(error) => FirecrackerVerdict::Failed { path, error },
    }
}

/// The program `name`, or the hint if `variable` points at nothing.
fn find(variable: &str, name: &str) -> Result<PathBuf, Option<String>> {
    match env::var_os(variable).filter(|value| !value.is_empty()) {
        Some(path) if Path::new(&path).is_file() => Ok(path.into()),
        Some(path) => Err(Some(format!("`{variable}` says `{}`, and no file is there", Path::new(&path).display()))),
        None => search_path(name).ok_or(None),
    }
}

fn search_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// The word after `before` in what the program prints.
fn ask(path: &Path, arguments: &[&str], before: &str) -> Result<String, String> {
    let text = output(path, arguments)?;
    let version = text.split_once(before).and_then(|(_, rest)| rest.split_whitespace().next());
    version.map(str::to_owned).ok_or_else(|| format!("it did not print a version, but {:?}", text.lines().next()))
}

fn output(path: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }
}
