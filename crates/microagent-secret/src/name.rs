//! Names of variables.

use crate::Error;
use crate::text::Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Longest name.
const MAX_NAME: usize = 128;

/// The name of a variable of an environment: letters, digits and `_`, no digit first, at most 128 bytes.
///
/// POSIX (Base Definitions, 8.1) has names of capitals only for its own utilities, and the rest for everybody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Name, Error> {
        let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let is_name = starts && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || text.len() > MAX_NAME {
            return Err(Error::BadName);
        }
        Ok(Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        // As a string: YAML has other ideas about `NO` and `true`.
        deserializer.deserialize_str(Text::expecting("the name of a variable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_identifier_is_a_name_and_nothing_else_is() {
        for text in ["A", "_", "a1", "GITHUB_TOKEN", "_9", &"x".repeat(MAX_NAME)] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
        }
        for text in ["", "1A", "A-B", "A B", "A=B", "Ä", "A\n", "A\0", &"x".repeat(MAX_NAME + 1)] {
            assert!(matches!(text.parse::<Name>(), Err(Error::BadName)), "{text}");
        }
    }

    #[test]
    fn it_is_a_string_to_serde_and_a_key_of_maps() {
        let map: BTreeMap<Name, u8> = serde_json::from_str(r#"{"B": 2, "A": 1}"#).unwrap();
        assert_eq!(serde_json::to_string(&map).unwrap(), r#"{"A":1,"B":2}"#);
        let map: BTreeMap<Name, u8> = serde_saphyr::from_str("NO: 1\ntrue: 2\n").unwrap();
        assert_eq!(map.keys().map(Name::as_str).collect::<Vec<_>>(), ["NO", "true"]);
        let error = serde_json::from_str::<Name>(r#""hunter2 hunter2""#).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
