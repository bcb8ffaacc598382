//! The product as its users have it: the program `microagent`, and a state directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::Build;
use crate::{Result, tool, workspace};

/// A built `microagent` and the state directory it is to use.
#[derive(Clone, Debug)]
pub struct Product {
    program: PathBuf,
    state: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
}

impl Product {
    /// Builds the program, to be used with the directory `state`.
    pub fn build(build: Build, state: PathBuf) -> Result<Product> {
        Ok(Product { program: workspace::microagent(build)?, state, environment: Vec::new() })
    }

    /// The same program with another state directory.
    #[must_use]
    pub fn with_state(&self, state: &Path) -> Product {
        Product { state: state.to_owned(), ..self.clone() }
    }

    /// The same, with a variable in its environment.
    #[must_use]
    pub fn with_environment(mut self, name: &'static str, value: &'static str) -> Product {
        self.environment.push((name, value));
        self
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A command of the program.
    pub fn command(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.environment.iter().copied()).arg("--state-dir").arg(&self.state).args(arguments);
        command
    }

    /// Sees that there is a guest kernel. It is downloaded the first time only.
    pub fn install_kernel(&self) -> Result<()> {
        let kernels = self.state.join("kernels");
        let some = kernels.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if some { Ok(()) } else { tool::show(&mut self.command(["kernel", "install"])) }
    }
}
