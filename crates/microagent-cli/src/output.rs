//! Results on standard output: text for people, JSON for programs, both from one value.

use crate::error::Error;
use serde::Serialize;
use std::io::{self, Write};

/// Why the flag of the contract that names a supervisor program has no effect.
pub(crate) const SUPERVISOR_NOTE: &str =
    "`--supervisor` changes nothing here: this verb hosts the supervisor in its own process";

/// How results and failures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text: results on standard output, failures on standard error.
    Text,
    /// One JSON document on standard output, or one JSON line about the failure on standard error.
    Json,
    /// One line of JSON on standard output, `ok` telling success from failure.
    Envelope,
}

/// A result that can be told to a person.
pub(crate) trait Text {
    /// Writes it. What is written may be styled; styles are removed where they would not show.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// The success envelope of `--mode ax`.
#[derive(Serialize)]
struct Envelope<'a, T> {
    ok: bool,
    result: &'a T,
}

/// Writes `result` to standard output.
pub(crate) fn show<T: Serialize + Text>(result: &T, format: Format) -> Result<(), Error> {
    if format == Format::Text {
        let mut out = anstream::stdout().lock();
        result.text(&mut out)?;
        return Ok(out.flush()?);
    }
    show_json(result, format)
}

/// Writes `result` to standard output as JSON, in either of its formats.
pub(crate) fn show_json<T: Serialize>(result: &T, format: Format) -> Result<(), Error> {
    let json = match format {
        Format::Envelope => serde_json::to_string(&Envelope { ok: true, result }),
        Format::Json | Format::Text => serde_json::to_string_pretty(result),
    };
    // Results have string keys and no custom serialisers, so this is the writer's error or none.
    let json = json.map_err(io::Error::from)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{json}")?;
    Ok(out.flush()?)
}

/// Writes `result` to standard output as one line of JSON: one of many.
pub(crate) fn show_line<T: Serialize>(result: &T) -> Result<(), Error> {
    let json = serde_json::to_string(result).map_err(io::Error::from)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{json}")?;
    Ok(out.flush()?)
}

/// Writes `label: value` lines.
pub(crate) fn labelled(out: &mut dyn Write, lines: &[(&str, String)]) -> io::Result<()> {
    lines.iter().try_for_each(|(label, value)| writeln!(out, "{label}: {value}"))
}

/// Tells the user something that is no failure, on standard error.
pub(crate) fn note(text: &str) {
    // A note is dispensable; the verb goes on without it.
    let _ = writeln!(anstream::stderr(), "note: {text}");
}
