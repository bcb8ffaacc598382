//! A name for a value.

use crate::{Error, Name, Reference};
use std::fmt;
use std::str::FromStr;

/// Where the value of a name is, written `NAME=scheme:ref`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// What the value is called where it goes.
    pub name: Name,
    /// Where it comes from.
    pub reference: Reference,
}

impl FromStr for Binding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Binding, Error> {
        let (name, reference) = text.split_once('=').ok_or(Error::BadBinding)?;
        // A pasted value in base64 ends like this, and what is in front is no name then but the value.
        if reference.bytes().all(|byte| byte == b'=') {
            return Err(Error::BadBinding);
        }
        let name: Name = name.parse().map_err(|_| Error::BadBinding)?;
        match reference.parse() {
            Ok(reference) => Ok(Binding { name, reference }),
            Err(error) => Err(Error::Binding { name, source: Box::new(error) }),
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_separates() {
        let binding: Binding = "TOKEN=file:a=b".parse().unwrap();
        assert_eq!((binding.name.as_str(), binding.reference.to_string().as_str()), ("TOKEN", "file:a=b"));
        assert_eq!(binding.to_string(), "TOKEN=file:a=b");
    }

    #[test]
    fn what_is_no_binding_is_refused_without_being_repeated() {
        for text in ["hunter2", "hunter2=", "hunter2==", "=hunter2", "=env:hunter2", "hun ter2=env:A", "1hunter2=env:A"]
        {
            let error = text.parse::<Binding>().unwrap_err();
            assert!(matches!(error, Error::BadBinding), "{text}: {error}");
        }
        let error = "TOKEN=hunter2".parse::<Binding>().unwrap_err();
        assert!(matches!(&error, Error::Binding { name, .. } if name.as_str() == "TOKEN"), "{error}");
    }
}
