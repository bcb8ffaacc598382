//! Files of `KEY=value` lines.
//!
//! There is no one format of these files. This one takes what all of its readers agree on, and refuses what they would
//! read in different ways rather than change somebody's password without a word:
//!
//! - `KEY=value` and `export KEY=value`, with or without spaces around the `=`; empty lines; lines that start with `#`.
//! - A bare value goes to the end of the line, or to white space and a `#`. Nothing in it has a meaning.
//! - A value in single quotes is literal. In double quotes, `\n`, `\t`, `\"`, `\\` and `\$` stand for what they do in
//!   most languages, and another backslash is an error. Only a comment may follow. Both end on the line they start on.
//! - No variable is ever put in: `$` is a `$`.
//! - Of two lines with one key, the last counts.

use crate::read::regular;
use crate::{Error, Name, Secret};
use std::path::Path;
use zeroize::Zeroizing;

/// All values of the file at `path`, in the order of their keys' first lines.
pub fn load(path: &Path) -> Result<Vec<(Name, Secret)>, Error> {
    let entries = entries(path)?;
    match entries.iter().find(|(_, value)| value.expose().is_empty()) {
        Some((key, _)) => Err(Error::Empty { reference: format!("dotenv:{}#{key}", path.display()) }),
        None => Ok(entries),
    }
}

/// The value of `key`, which may be empty, as may those of others.
pub(crate) fn find(path: &Path, key: &Name) -> Result<Secret, Error> {
    let found = entries(path)?.into_iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value).ok_or_else(|| Error::NoKey { path: path.to_owned(), key: key.clone() })
}

fn entries(path: &Path) -> Result<Vec<(Name, Secret)>, Error> {
    let text = regular(path)?;
    // The byte order mark, which editors of Windows put first.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut entries: Vec<(Name, Secret)> = Vec::new();
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        let entry = entry(line).map_err(|reason| Error::BadLine { path: path.to_owned(), line: number, reason })?;
        let Some((key, value)) = entry else { continue };
        match entries.iter_mut().find(|(name, _)| *name == key) {
            Some(earlier) => earlier.1 = value,
            None => entries.push((key, value)),
        }
    }
    Ok(entries)
}

/// What one line says, if anything.
fn entry(line: &[u8]) -> Result<Option<(Name, Secret)>, &'static str> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    let after_export = line.strip_prefix(b"export").filter(|rest| rest[..rest.len().min(1)].trim_ascii().is_empty());
    let line = after_export.unwrap_or(line);
    let equals = line.iter().position(|&byte| byte == b'=').ok_or("there is no `=` in it")?;
    let key = std::str::from_utf8(line[..equals].trim_ascii()).ok().and_then(|key| key.parse().ok());
    let key = key.ok_or("what is before the `=` is not the name of a variable")?;
    let rest = &line[equals + 1..];
    let value = match rest.trim_ascii_start() {
        [b'\'', quoted @ ..] => single_quoted(quoted),
        [b'"', quoted @ ..] => double_quoted(quoted),
        _ => Ok(Zeroizing::new(bare(rest).to_vec())),
    }?;
    let value = Secret::of(&value).map_err(|_| "its value is longer than 1 MiB")?;
    Ok(Some((key, value)))
}

fn bare(rest: &[u8]) -> &[u8] {
    let comment = rest.windows(2).position(|two| two[0].is_ascii_whitespace() && two[1] == b'#');
    rest[..comment.unwrap_or(rest.len())].trim_ascii()
}

fn single_quoted(rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let end = rest.iter().position(|&byte| byte == b'\'').ok_or(UNENDING)?;
    nothing_but_comment(&rest[end + 1..])?;
    Ok(Zeroizing::new(rest[..end].to_vec()))
}

fn double_quoted(rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    // What an escape stands for is shorter than itself, so the buffer is not moved.
    let mut value = Zeroizing::new(Vec::with_capacity(rest.len()));
    let mut bytes = rest.iter();
    loop {
        match bytes.next().ok_or(UNENDING)? {
            b'"' => break,
            b'\\' => value.push(match bytes.next().ok_or(UNENDING)? {
                b'n' => b'\n',
                b't' => b'\t',
                same @ (b'"' | b'\\' | b'$') => *same,
                _ => return Err("there is a backslash in it with an unknown meaning"),
            }),
            byte => value.push(*byte),
        }
    }
    nothing_but_comment(bytes.as_slice())?;
    Ok(value)
}

const UNENDING: &str = "its quotes do not end on it";

fn nothing_but_comment(rest: &[u8]) -> Result<(), &'static str> {
    let after = rest.trim_ascii_start();
    if after.is_empty() || (after[0] == b'#' && after.len() < rest.len()) {
        return Ok(());
    }
    Err("something follows its closing quote")
}

#[cfg(test)]
#[path = "dotenv_tests.rs"]
mod tests;
