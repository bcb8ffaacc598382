//! Environment variables. An empty one counts as not set: that is how shells unset a variable for one command.

use crate::error::Error;
use clap::ValueEnum;
use std::ffi::OsString;
use std::path::PathBuf;

fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A variable that names a file.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    value(name).map(PathBuf::from)
}

/// A variable that takes the same words as a flag.
pub(crate) fn choice<T: ValueEnum>(name: &'static str) -> Result<Option<T>, Error> {
    let Some(value) = value(name) else { return Ok(None) };
    let value = value.to_string_lossy();
    T::from_str(&value, false).map(Some).map_err(|_| {
        let words: Vec<String> = T::value_variants()
            .iter()
            .filter_map(|variant| Some(format!("`{}`", variant.to_possible_value()?.get_name())))
            .collect();
        Error::usage(
            format!("the environment variable `{name}` cannot be `{value}`"),
            format!("set it to {}", words.join(" or ")),
        )
    })
}

/// A variable that is on or off.
pub(crate) fn switch(name: &'static str) -> Result<Option<bool>, Error> {
    let Some(value) = value(name) else { return Ok(None) };
    match value.to_str() {
        Some("1" | "true" | "yes" | "on") => Ok(Some(true)),
        Some("0" | "false" | "no" | "off") => Ok(Some(false)),
        _ => Err(Error::usage(
            format!("the environment variable `{name}` cannot be `{}`", value.to_string_lossy()),
            "set it to `1` or `0`",
        )),
    }
}

/// A variable that is taken as it is.
pub(crate) fn text(name: &str) -> Option<String> {
    value(name)?.into_string().ok()
}
