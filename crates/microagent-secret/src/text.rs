//! What is read from a string, and says nothing about what is there instead.

use crate::Error;
use serde::de::Visitor;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// Takes a string for a `T`.
///
/// serde's own errors of type show the number or truth value that they found, and a number can be somebody's PIN.
pub(crate) struct Text<T> {
    expected: &'static str,
    read: PhantomData<T>,
}

impl<T> Text<T> {
    pub(crate) fn expecting(expected: &'static str) -> Text<T> {
        Text { expected, read: PhantomData }
    }

    fn refuse<E: serde::de::Error>(&self) -> Result<T, E> {
        Err(E::custom(format_args!("something else than {}", self.expected)))
    }
}

impl<T: FromStr<Err = Error>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<T, E> {
        self.refuse()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<T, E> {
        self.refuse()
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<T, E> {
        self.refuse()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<T, E> {
        self.refuse()
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<T, E> {
        self.refuse()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<T, E> {
        self.refuse()
    }
}
