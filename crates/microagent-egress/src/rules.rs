//! What a user says about egress.

use crate::{Error, Host};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How much is allowed that is not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The public internet is, and nothing inside.
    #[default]
    Guarded,
    /// Nothing is.
    Strict,
    /// Everything the host can reach is, and nothing is looked at.
    Off,
}

impl Mode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Guarded => "guarded",
            Mode::Strict => "strict",
            Mode::Off => "off",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mode, Error> {
        [Mode::Guarded, Mode::Strict, Mode::Off]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| Error::BadMode { mode: text.to_owned() })
    }
}

/// The rules of one workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What becomes of what is not listed.
    #[serde(default)]
    pub mode: Mode,
    /// Allowed, and looked into: TLS is ended at the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Host>,
    /// Allowed, and passed on as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough: Vec<Host>,
}

impl Rules {
    /// Fails where hosts are listed that nobody would look at.
    pub fn check(&self) -> Result<(), Error> {
        if self.mode == Mode::Off && !(self.allow.is_empty() && self.passthrough.is_empty()) {
            return Err(Error::NothingToAllow);
        }
        Ok(())
    }

    /// Whether there can be a connection that is looked into.
    pub fn intercepts_any(&self) -> bool {
        self.mode != Mode::Off && self.allow.iter().any(|host| !matches!(host, Host::Address(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_allowed_have_connections_that_are_looked_into() {
        let rules = |mode, allow: &[&str]| {
            let allow = allow.iter().map(|host| host.parse().unwrap()).collect();
            Rules { mode, allow, passthrough: vec!["pinned.example".parse().unwrap()] }
        };
        assert!(rules(Mode::Guarded, &["192.0.2.1", ".example.com"]).intercepts_any());
        assert!(!rules(Mode::Strict, &["192.0.2.1"]).intercepts_any());
        assert!(!rules(Mode::Strict, &[]).intercepts_any());
        assert!(!rules(Mode::Off, &["a.example"]).intercepts_any());
    }
}
