//! What the tests of several places share.
#![allow(dead_code, reason = "each test binary uses some of it")]

pub(crate) mod server;

use microagent_protocol::FaultReport;
use microagent_secret::{Error, Reference, Secret, Sources};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Waiting longer for something that is to happen means that it does not.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(crate) fn resolve(sources: &Sources, text: &str) -> Result<Secret, Error> {
    sources.resolve(&reference(text))
}

/// Why `text`, which names a file, cannot be resolved.
pub(crate) fn cause(sources: &Sources, text: &str) -> Error {
    match resolve(sources, text).unwrap_err() {
        Error::Unreadable { reference: of, source } if of == reference(text) => *source,
        other => panic!("{text}: {}", shown(&other)),
    }
}

/// The value, as text.
pub(crate) fn value(sources: &Sources, text: &str) -> String {
    let secret = resolve(sources, text).unwrap_or_else(|error| panic!("{text}: {}", shown(&error)));
    secret.text().unwrap().to_owned()
}

/// Everything that anybody could print of `error`.
pub(crate) fn shown(error: &Error) -> String {
    let report = FaultReport::new(error);
    format!("{} {error:?} {error:#?} {report:?}", report.message)
}

/// An executable script. It is written by another process: were it this one, a child that another thread starts at that
/// moment would hold it open for writing, and it could not be run (`ETXTBSY`).
pub(crate) fn script(dir: &Path, name: &str, lines: &str) -> PathBuf {
    let (text, path) = (dir.join(format!("{name}.text")), dir.join(name));
    std::fs::write(&text, format!("#!/bin/sh\n{lines}\n")).unwrap();
    let done = Command::new("install").args(["-m", "755"]).arg(&text).arg(&path).status().unwrap();
    assert!(done.success());
    path
}
