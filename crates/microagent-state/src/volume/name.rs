//! Names of volumes.

use crate::{Error, Name};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of a volume: of the same grammar as the [`Name`] of a workspace, and never mistaken for one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(Name);

impl VolumeName {
    /// Checks `name`.
    pub fn new(name: impl Into<String>) -> Result<VolumeName, Error> {
        let name = name.into();
        Name::new(name.as_str()).map(VolumeName).map_err(|_| Error::BadVolumeName { name })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for VolumeName {
    type Error = Error;

    fn try_from(name: String) -> Result<VolumeName, Error> {
        VolumeName::new(name)
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> String {
        name.0.into()
    }
}

impl std::str::FromStr for VolumeName {
    type Err = Error;

    fn from_str(name: &str) -> Result<VolumeName, Error> {
        VolumeName::new(name)
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
