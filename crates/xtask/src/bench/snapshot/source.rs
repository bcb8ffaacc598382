//! A workspace that snapshots are taken of.

use std::process::Command;

use super::PROFILE;
use crate::bench::Bench;
use crate::bench::sample::milliseconds_since;
use crate::{Error, Result, tool};
use std::time::Instant;

/// What goes on in it: something small, ten times a second.
const SOMETHING: &str = "n=0; while true; do n=$((n+1)); echo $n > /n; sleep 0.1; done";

/// A workspace that runs. It is removed with this value, and its snapshots with it.
pub(super) struct Source<'a> {
    bench: &'a Bench,
    name: &'static str,
}

/// What is said of a snapshot that was taken.
pub(super) struct Taken {
    pub(super) pause_ms: f64,
    /// MiB on disk that are its own, and those that it needs together with others.
    pub(super) own: f64,
    pub(super) shared: f64,
}

impl<'a> Source<'a> {
    pub(super) fn start(bench: &'a Bench, name: &'static str) -> Result<Source<'a>> {
        tool::capture(&mut bench.microagent.command([
            "create",
            name,
            "--image",
            &bench.busybox,
            "--profile",
            PROFILE,
        ]))?;
        let source = Source { bench, name };
        source.run(["start", name])?;
        source.run(["exec", name, "--detach", "--", "/bin/sh", "-c", SOMETHING])?;
        source.run(["exec", name, "--", "true"])?;
        Ok(source)
    }

    /// Takes a snapshot of it, with all that belongs to one.
    pub(super) fn snapshot(&self, tag: &str) -> Result<Taken> {
        let report = self.bench.json(["--json", "snapshot", "create", self.name, tag])?;
        if let Some(note) = report["note"].as_str() {
            return Err(Error::Check(format!("snapshot `{tag}` is less than it could be: {note}")));
        }
        let number = |name: &str| {
            let wanted = Error::Unexpected { line: "microagent snapshot create".to_owned(), wanted: "size and pause" };
            report[name].as_f64().ok_or(wanted)
        };
        let mebibytes = |name| number(name).map(|bytes| bytes / f64::from(1 << 20));
        let (own, shared) = (mebibytes("bytes")?, mebibytes("shared_bytes")?);
        Ok(Taken { pause_ms: number("pause_ms")?, own, shared })
    }

    /// Returns to a snapshot while it is at rest, as it is afterwards: the milliseconds until a command has been answered.
    pub(super) fn restore(&self, tag: &str) -> Result<f64> {
        let begun = Instant::now();
        self.run(["snapshot", "restore", self.name, tag, "--yes"])?;
        self.run(["exec", self.name, "--", "true"])?;
        let took = milliseconds_since(begun);
        self.kill()?;
        Ok(took)
    }

    /// Runs a shell line in it and returns what that printed.
    pub(super) fn shell(&self, line: &str) -> Result<String> {
        self.run(["exec", self.name, "--", "/bin/sh", "-c", line])
    }

    pub(super) fn kill(&self) -> Result<()> {
        self.run(["kill", self.name, "--reason", "it has been measured", "--yes"]).map(drop)
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    fn run<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        let mut command: Command = self.bench.microagent.command(arguments);
        tool::capture(&mut command)
    }
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        // What cannot be removed is removed with the state directory.
        let _ = self.run(["delete", self.name, "--yes", "--force"]);
    }
}
