//! Where a value is.

use crate::text::Text;
use crate::{Error, Name};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Longest reference: the longest path there is (`PATH_MAX`, limits.h of Linux).
const MAX_REFERENCE: usize = 4096;

/// Where a value is, written as one of the schemes that the [crate] lists. It is no secret itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(Place);

/// What a reference says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// This variable.
    Env(Name),
    /// This file, as it was written: `~/` and what is relative are seen to when it is read.
    File(String),
    /// This key in that file.
    Dotenv { path: String, key: Name },
    /// This field at that path of Vault's API, `/v1/` left out.
    Vault { path: String, field: String },
    /// What the helper has for this.
    Helper(String),
}

impl Reference {
    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    /// The word before the colon.
    pub fn scheme(&self) -> &'static str {
        match self.0 {
            Place::Env(_) => "env",
            Place::File(_) => "file",
            Place::Dotenv { .. } => "dotenv",
            Place::Vault { .. } => "vault",
            Place::Helper(_) => "helper",
        }
    }

    /// Whether the value lies there as it is, for everybody who can read the place: it is not encrypted at rest.
    pub fn is_plaintext(&self) -> bool {
        matches!(self.0, Place::Env(_) | Place::File(_) | Place::Dotenv { .. })
    }
}

/// Reads what follows a colon.
type Parse = fn(&str) -> Result<Place, &'static str>;

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference, Error> {
        let (scheme, rest) = text.split_once(':').ok_or(Error::NoReference)?;
        let (scheme, parse): (_, Parse) = match scheme {
            "env" => ("env", env),
            "file" => ("file", |path| Ok(Place::File(path.to_owned()))),
            "dotenv" => ("dotenv", dotenv),
            "vault" => ("vault", vault),
            "helper" => ("helper", helper),
            // It may be the first half of a password, so it is not repeated either.
            _ => return Err(Error::NoReference),
        };
        let place = check(rest).and_then(|()| parse(rest));
        place.map(Reference).map_err(|reason| Error::BadReference { scheme, reason })
    }
}

/// What holds of every reference.
fn check(rest: &str) -> Result<(), &'static str> {
    if rest.is_empty() {
        return Err("nothing follows the colon");
    }
    if rest.len() > MAX_REFERENCE {
        return Err("it is longer than 4096 bytes");
    }
    // Some could not be passed on (NUL), the others would make a mess of a terminal.
    if rest.contains(char::is_control) {
        return Err("there are control characters in it");
    }
    Ok(())
}

fn env(rest: &str) -> Result<Place, &'static str> {
    rest.parse().map(Place::Env).map_err(|_| "what follows is not the name of a variable")
}

fn dotenv(rest: &str) -> Result<Place, &'static str> {
    let (path, key) = rest.rsplit_once('#').ok_or("no `#KEY` ends it")?;
    if path.is_empty() {
        return Err("no path is before the `#`");
    }
    let key = key.parse().map_err(|_| "what follows the `#` is not the name of a variable")?;
    Ok(Place::Dotenv { path: path.to_owned(), key })
}

/// The path as the API has it: in version 2 of the key-value engine, `data` comes between the mount and the path of the
/// secret (Vault's documentation, "KV secrets engine - version 2 (API)", "Read secret version").
fn vault(rest: &str) -> Result<Place, &'static str> {
    let (path, field) = rest.rsplit_once('#').ok_or("no `#FIELD` ends it")?;
    if field.is_empty() {
        return Err("no field follows the `#`");
    }
    let parts: Vec<&str> = path.split('/').collect();
    // Servers and proxies resolve dots: the request would be for something else than what is written.
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err("its path has a part that is empty or made of dots");
    }
    if !parts[1..].iter().rev().skip(1).any(|part| *part == "data") {
        return Err("its path is not of the form `MOUNT/data/PATH`");
    }
    Ok(Place::Vault { path: path.to_owned(), field: field.to_owned() })
}

fn helper(rest: &str) -> Result<Place, &'static str> {
    // It would be an option of the helper, which whoever wrote the reference has no say in.
    if rest.starts_with('-') {
        return Err("what follows starts with `-`");
    }
    Ok(Place::Helper(rest.to_owned()))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match &self.0 {
            Place::Env(name) => write!(f, "{scheme}:{name}"),
            Place::File(rest) | Place::Helper(rest) => write!(f, "{scheme}:{rest}"),
            Place::Dotenv { path, key } => write!(f, "{scheme}:{path}#{key}"),
            Place::Vault { path, field } => write!(f, "{scheme}:{path}#{field}"),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        // Asked for a string, serde_json refuses a number itself, and shows it.
        deserializer.deserialize_any(Text::expecting("a reference to a secret"))
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
