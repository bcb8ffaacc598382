//! The variables that values and settings come from.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;
use zeroize::Zeroizing;

/// Where variables are looked up.
pub(crate) enum Environment {
    /// In the environment of this process, each when it is asked for: there is no copy of all of it.
    Process,
    /// Here, and nowhere else.
    Given(BTreeMap<String, Zeroizing<Vec<u8>>>),
}

impl Environment {
    /// The value of `variable`.
    pub(crate) fn get(&self, variable: &str) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Environment::Process => std::env::var_os(variable).map(|value| Zeroizing::new(value.into_vec())),
            Environment::Given(variables) => variables.get(variable).cloned(),
        }
    }

    /// The value of a setting. An empty one is none: that is how a setting is taken back for one command.
    pub(crate) fn setting(&self, variable: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.get(variable).filter(|value| !value.is_empty())
    }

    /// Whether it is the one of this process.
    pub(crate) fn is_of_process(&self) -> bool {
        matches!(self, Environment::Process)
    }

    /// Gives `command` these variables.
    pub(crate) fn pass_to(&self, command: &mut Command) {
        if let Environment::Given(variables) = self {
            command.env_clear();
            command.envs(variables.iter().map(|(name, value)| (name, OsStr::from_bytes(value))));
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Environment::Process => f.write_str("Process"),
            Environment::Given(variables) => f.debug_set().entries(variables.keys()).finish(),
        }
    }
}
