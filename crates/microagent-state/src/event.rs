//! What happened to a workspace: `events.jsonl`, to which lines are only ever added.

use crate::{Error, Phase};
use jiff::Timestamp;
use microagent_protocol::FaultReport;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of the file in a workspace's directory.
pub(crate) const FILE: &str = "events.jsonl";

/// Most bytes of the file that are read back: some fifty thousand events.
const READ_LIMIT: u64 = 16 << 20;

/// Who asked for something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Who asked: `cli`, `library`, `supervisor`, `guest`, or what the caller calls itself.
    pub actor: String,
    /// Why, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What joins this to the caller's own records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl Cause {
    /// Something that `actor` did of itself.
    pub fn of(actor: &str) -> Cause {
        Cause { actor: actor.to_owned(), reason: None, correlation_id: None }
    }

    /// The same, for a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Cause {
        Cause { reason: Some(reason.into()), ..self }
    }
}

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// What: `created`, the phase that was entered, or the name of something that changes no phase.
    pub event: String,
    /// The phase since.
    pub state: Phase,
    /// The phase before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Phase>,
    /// Who asked, and why.
    #[serde(flatten)]
    pub cause: Cause,
    /// The machine it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<FaultReport>,
    /// Exit code of the command whose end it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// Adds `event` to the file in `dir`, whole or not at all as far as a reader can tell: it takes a line without an end for none.
pub(crate) fn append(dir: &Path, event: &Event) -> Result<(), Error> {
    let path = dir.join(FILE);
    let mut line = serde_json::to_vec(event).expect("events have only string keys");
    line.push(b'\n');
    let mut write = || {
        let mut file = std::fs::File::options().read(true).append(true).create(true).mode(0o600).open(&path)?;
        // A line that a full disk or a crash cut short is ended, so that it spoils none but itself.
        if ends_within_a_line(&mut file)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line)
    };
    write().map_err(Error::io("write", &path))
}

fn ends_within_a_line(file: &mut std::fs::File) -> std::io::Result<bool> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last != [b'\n'])
}

/// Reads the events of `dir` from byte `offset` on. Returns them with the offset to go on from. A line that is cut short is left for later;
/// one that is damaged is passed over.
pub(crate) fn read(dir: &Path, offset: u64) -> Result<(Vec<Event>, u64), Error> {
    let path = dir.join(FILE);
    let read = || {
        let mut file = std::fs::File::open(&path)?;
        let length = file.metadata()?.len();
        let start = if offset == 0 { length.saturating_sub(READ_LIMIT) } else { offset };
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(READ_LIMIT).read_to_end(&mut bytes)?;
        Ok((start, bytes))
    };
    let (start, bytes) = match read() {
        Ok(read) => read,
        Err(error) if std::io::Error::kind(&error) == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(source) => return Err(Error::io("read", &path)(source)),
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|&byte| byte == b'\n');
    Ok((lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(), start + whole as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> Event {
        Event {
            at: Timestamp::UNIX_EPOCH,
            event: name.to_owned(),
            state: Phase::Prepared,
            from: None,
            cause: Cause::of("test").because("why not"),
            session: None,
            error: None,
            exit_code: None,
        }
    }

    #[test]
    fn events_are_read_back_in_order_and_from_where_a_reader_left_off() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 0).unwrap(), (Vec::new(), 0));
        append(dir.path(), &event("one")).unwrap();
        let (first, offset) = read(dir.path(), 0).unwrap();
        append(dir.path(), &event("two")).unwrap();
        assert_eq!(first, [event("one")]);
        assert_eq!(read(dir.path(), offset).unwrap().0, [event("two")]);
    }

    #[test]
    fn a_line_that_was_cut_short_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &event("one")).unwrap();
        let path = dir.path().join(FILE);
        let mut text = std::fs::read(&path).unwrap();
        text.extend(br#"{"at":"19"#);
        std::fs::write(&path, text).unwrap();
        append(dir.path(), &event("two")).unwrap();
        assert_eq!(read(dir.path(), 0).unwrap().0, [event("one"), event("two")]);
    }
}
