//! From text to types, and from a mistake to its line, column and the way out.

use crate::Error;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{DefaultMessageFormatter, Error as YamlError, MessageFormatter};
use std::path::Path;
use std::time::Duration;

/// How many characters of ten may differ between what was written and what is suggested.
const DIFFERENT_OF_TEN: usize = 4;

/// Reads `text` as one YAML document.
pub(super) fn yaml<T: DeserializeOwned + Default>(text: &str, path: &Path) -> Result<T, Error> {
    // `yes` is a word here, as YAML 1.2 has it, and what a key holds is told by its type alone.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    match serde_saphyr::from_str_with_options::<Option<T>>(text, options) {
        // An empty file asks for nothing.
        Ok(spec) => Ok(spec.unwrap_or_default()),
        Err(error) => Err(explain(&error, path)),
    }
}

/// Checks that `text` is JSON: all that is said of it beyond that is the same as of YAML.
pub(super) fn check_json(text: &str, path: &Path) -> Result<(), Error> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
            let (line, column) = (error.line() as u64, error.column() as u64);
            Err(Error::SpecInvalid { path: path.to_owned(), line, column, reason, suggestion: None })
        }
    }
}

fn explain(error: &YamlError, path: &Path) -> Error {
    let place = error.location();
    let (line, column) = place.map_or((1, 1), |place| (place.line(), place.column()));
    let (reason, suggestion) = reason(error.without_snippet());
    Error::SpecInvalid { path: path.to_owned(), line, column, reason, suggestion }
}

/// What is wrong, and what may have been meant.
fn reason(error: &YamlError) -> (String, Option<String>) {
    match error {
        YamlError::AliasError { error, .. } => reason(error),
        YamlError::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), Some(suggest(field, expected, "the keys here are")))
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("it cannot be `{variant}`"), Some(suggest(variant, expected, "it can be")))
        }
        YamlError::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing"), None),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => (format!("the key `{key}` is there twice"), None),
        YamlError::SerdeInvalidType { unexpected, expected, .. }
        | YamlError::SerdeInvalidValue { unexpected, expected, .. } => {
            (format!("{} was found where {expected} is expected", unexpected.replace('"', "`")), None)
        }
        other => {
            let text = DefaultMessageFormatter.format_message(other).replace('\n', " ");
            let mut characters = text.chars();
            let first = characters.next().map(|first| first.to_ascii_lowercase());
            (first.into_iter().chain(characters).collect::<String>().trim_end_matches('.').to_owned(), None)
        }
    }
}

/// What may have been meant: the nearest of what there is, else all of it.
fn suggest(written: &str, known: &[&'static str], introduction: &str) -> String {
    let bare = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let distance = |name: &str| strsim::osa_distance(&bare(written), &bare(name));
    let nearest = known.iter().map(|name| (distance(name), *name)).min();
    match nearest {
        Some((distance, name)) if distance * 10 <= name.len() * DIFFERENT_OF_TEN => {
            format!("a similar one exists: `{name}`")
        }
        _ => {
            let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("{introduction} {}", names.join(", "))
        }
    }
}

/// Reads a time: a number of seconds, or a number with a unit of `ms`, `s`, `m` or `h` (`90`, `5s`, `2m`). The error is what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a time is a number of seconds, or one with a unit as in `5s`, `2m` or `1h`".to_owned()),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        None => Err("a time is a whole number, as in `90`, `5s` or `2m`".to_owned()),
        Some(0) => Err("it leaves no time at all".to_owned()),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
    }
}
