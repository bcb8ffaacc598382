//! What a workspace changed.

use super::Files;
use crate::{Client, Error, Interrupt};
use microagent_protocol::Change;
use microagent_state::Name;
use serde::Serialize;
use std::io::{BufRead, BufReader, Read};

/// Longest line of a guest's list: a path has at most 4096 bytes, which escapes make six times as long.
const MAX_LINE: u64 = 64 << 10;

/// What differs between a workspace and its image.
#[derive(Clone, Debug, Serialize)]
pub struct Changes {
    /// Name of the workspace.
    pub workspace: Name,
    /// The differences, parents before children.
    pub changes: Vec<Change>,
}

impl Client {
    /// What differs between a workspace and its image.
    pub fn changes(&self, name: &Name, interrupt: &Interrupt) -> Result<Changes, Error> {
        let files = Files::open(self, name, interrupt)?;
        let (output, pending) = files.changes()?;
        let changes = read(output);
        pending.wait()?;
        let changes = changes?;
        files.close()?;
        Ok(Changes { workspace: name.clone(), changes })
    }
}

fn read(output: impl Read) -> Result<Vec<Change>, Error> {
    let mut lines = BufReader::new(output);
    let mut changes = Vec::new();
    loop {
        let mut line = Vec::new();
        (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).map_err(|source| Error::CopyStream { source })?;
        if line.is_empty() {
            return Ok(changes);
        }
        changes.push(serde_json::from_slice(&line).map_err(|error| {
            let what = format!("a list of changes that cannot be read: {error}");
            microagent_machine::Error::ProtocolViolation { what }
        })?);
    }
}
