//! What can go wrong while a developer's task runs.
//!
//! These errors never leave the developer's terminal, so unlike those of the product's crates they carry no stable
//! codes; what to do next is part of the message.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed, or not on `PATH`.
    #[error("cannot start `{program}`: run `cargo xtask setup all`, which installs what is missing")]
    Start {
        /// The program's name or path.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A tool ran and said no. What it printed has been shown.
    #[error("`{line}` failed: {status}")]
    Tool {
        /// The command line.
        line: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A tool ran, and what it printed is not what it prints.
    #[error("`{line}` printed no {wanted}")]
    Unexpected {
        /// The command line.
        line: String,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A file or directory could not be used.
    #[error("cannot {action} `{path}`")]
    File {
        /// The verb.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Packages are missing and nobody here may install them.
    #[error("packages are missing and this user may not install them: run `{command}` as root, then try again")]
    Packages {
        /// The command that installs them.
        command: String,
    },
    /// A kernel package does not hold the kernel or module that the lab needs.
    #[error("the kernel package has no usable `{what}`: delete `{cache}` and try again")]
    Kernel {
        /// What was looked for.
        what: String,
        /// Where the package was unpacked.
        cache: PathBuf,
    },
    /// The lab's machine ended without reporting the command's exit status.
    #[error("the lab's machine died before the command ended: its console said `{console}`")]
    LabDied {
        /// The last lines of the console, joined.
        console: String,
    },
    /// The lab's machine was stopped because the command took too long.
    #[error("the command in the lab took longer than {seconds} s: give it more with `--deadline`")]
    LabDeadline {
        /// The deadline.
        seconds: u64,
    },
    /// A server ended, or closed its log, before it was ready.
    #[error("`{server}` ended before it was ready: it said `{said}`")]
    Server {
        /// The server's program.
        server: &'static str,
        /// The last line it printed.
        said: String,
    },
    /// A toolchain component is missing which only its owner can install.
    #[error("{what} is missing: run `{command}`")]
    Toolchain {
        /// What is missing.
        what: &'static str,
        /// The command that installs it.
        command: &'static str,
    },
    /// Something that was measured or shown is not as it must be.
    #[error("{0}")]
    Check(String),
}

impl Error {
    /// Turns an I/O error into one that says what was being done, on what.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::File { action, path, source }
    }
}
