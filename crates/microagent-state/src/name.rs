//! Names of workspaces.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest name in bytes: a name is also a host name label, which RFC 1035 bounds to 63.
const MAX_LEN: usize = Name::MAX;

/// Name of a workspace: a letter or digit, then letters, digits, `.`, `_`, `-`; at most 63 bytes. It is a file name that needs no quoting
/// anywhere and cannot leave its directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Most bytes of a name.
    pub const MAX: usize = 63;

    /// Checks `name`.
    pub fn new(name: impl Into<String>) -> Result<Name, Error> {
        let name = name.into();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid = name.len() <= MAX_LEN
            && name.bytes().all(fits)
            && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if valid { Ok(Name(name)) } else { Err(Error::BadName { name }) }
    }

    /// A name that was not given yet: `<prefix>-<nanoseconds since the Unix epoch>`.
    pub fn generate(prefix: &str) -> Name {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Name(format!("{prefix}-{}", now.as_nanos()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a Linux host name: one label of letters, digits and inner hyphens.
    pub fn to_hostname(&self) -> String {
        let label: String = self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        label.trim_end_matches('-').to_owned()
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(name: String) -> Result<Name, Error> {
        Name::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl std::str::FromStr for Name {
    type Err = Error;

    fn from_str(name: &str) -> Result<Name, Error> {
        Name::new(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_never_leaves_its_directory(text in "\\PC{0,80}") {
            if let Ok(name) = Name::new(text) {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert_eq!(path.file_name().unwrap().to_str(), Some(name.as_str()));
                prop_assert!(!name.to_hostname().is_empty());
            }
        }
    }

    #[test]
    fn names_that_mean_something_to_a_shell_or_a_path_are_refused() {
        for bad in ["", ".", "..", "-a", ".a", "a/b", "a b", "a\0", "ä", &"x".repeat(64)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Name::new("a.b_c-").unwrap().to_hostname(), "a-b-c");
    }
}
