//! The record of a machine's egress: one line of JSON for each thing that happened.

use crate::{Error, Event, Happened, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Most bytes of the file. What came before is in another one beside it then, and what came before that is gone: a guest that floods is
/// denied all the same, and fills nobody's disk.
const MAX_BYTES: u64 = 32 << 20;

/// Lines of what did not go out that are written at once, and in a second from then on. Of what is more only the number is written: a guest
/// can try as fast as it likes. What goes out is always written.
const BURST: u32 = 2000;
const RATE: u32 = 200;

/// Most bytes of one line that are read.
const MAX_LINE: u64 = 64 << 10;

/// Most hosts that a summary names.
const MAX_HOSTS: usize = 16;

/// Where events go. Lines are appended whole, in one write.
#[derive(Debug)]
pub struct Log(Mutex<Open>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The last line may not be whole.
    is_torn: bool,
    /// Lines that may be written now.
    allowance: u32,
    refilled: Instant,
    /// Lines that were not, or could not be.
    left_out: u64,
    summary: Summary,
}

/// What happened, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Connections and datagram flows that went out.
    pub allowed: u64,
    /// Things that did not.
    pub denied: u64,
    /// Requests that a credential was put into.
    pub swapped: u64,
    /// How often each host was denied: the first sixteen hosts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denied_hosts: BTreeMap<String, u64>,
}

impl Summary {
    fn count(&mut self, event: &Event) {
        match event.event {
            Happened::Allow => self.allowed += 1,
            Happened::Swap => self.swapped += 1,
            Happened::Deny | Happened::SwapError => {
                self.denied += 1;
                if event.host.is_none() && event.address.is_none() {
                    return;
                }
                let peer = event.peer();
                if self.denied_hosts.len() < MAX_HOSTS || self.denied_hosts.contains_key(&peer) {
                    *self.denied_hosts.entry(peer).or_default() += 1;
                }
            }
            Happened::Close | Happened::Error | Happened::LeftOut => {}
        }
    }
}

impl Log {
    /// Goes on with the record in `path`, or begins it.
    pub fn open(path: &Path) -> Result<Log, Error> {
        let failed = |source| Error::File { doing: "write", path: path.to_owned(), source };
        let file = open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(Log(Mutex::new(Open {
            path: path.to_owned(),
            file,
            bytes,
            // Whoever wrote it before may have been killed half way.
            is_torn: bytes > 0 && !ends_with_a_line(path),
            allowance: BURST,
            refilled: Instant::now(),
            left_out: 0,
            summary: Summary::default(),
        })))
    }

    /// Writes an event down. That it cannot be changes nothing about what it tells of.
    pub fn write(&self, event: &Event) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.summary.count(event);
        open.write(event, Instant::now());
    }

    /// What has happened since it was opened.
    pub fn summary(&self) -> Summary {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).summary.clone()
    }

    /// What is in the record at `path` from byte `offset` on, and the offset to go on from. A line that is not whole yet is left for then;
    /// one that cannot be read, as a full disk may leave it, is passed over. From the beginning, what was in the file before this one
    /// comes first; where this one is shorter than `offset`, it is another, and read from its beginning.
    pub fn read(path: &Path, offset: u64) -> Result<(Vec<Event>, u64), Error> {
        let mut events = Vec::new();
        let mut take = |line: &[u8]| events.extend(serde_json::from_slice::<Event>(line).ok());
        if offset == 0 {
            read_from(&before(path), 0, &mut take)?;
        }
        let end = read_from(path, offset, &mut take)?;
        Ok((events, end))
    }

    /// All that is in the record at `path`, which nobody writes to any more, and how many of its lines were passed over. Fails where there
    /// are lines, and none of them is one of a record.
    pub fn load(path: &Path) -> Result<(Vec<Event>, u64), Error> {
        let failed = |source| Error::File { doing: "read", path: path.to_owned(), source };
        let (mut events, mut passed_over) = (Vec::new(), 0);
        let mut take = |line: &[u8]| match serde_json::from_slice::<Event>(line) {
            Ok(event) => events.push(event),
            Err(_) => passed_over += u64::from(!line.trim_ascii().is_empty()),
        };
        read_from(&before(path), 0, &mut take)?;
        let end = read_from(path, 0, &mut take)?;
        let mut last = Vec::new();
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(end)).and_then(|_| file.take(MAX_LINE).read_to_end(&mut last)).map_err(failed)?;
        take(&last);
        if events.is_empty() && passed_over > 0 {
            let reason = format!("none of its {passed_over} lines is one");
            return Err(Error::BadFile { path: path.to_owned(), what: "a record of egress", reason });
        }
        Ok((events, passed_over))
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

fn ends_with_a_line(path: &Path) -> bool {
    let mut last = [0];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)
    });
    read.is_ok() && last == *b"\n"
}

/// The file that came before `path`.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Gives each whole line from byte `offset` on to `take`. The end of the last.
fn read_from(path: &Path, offset: u64, take: &mut impl FnMut(&[u8])) -> Result<u64, Error> {
    let failed = |source| Error::File { doing: "read", path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(offset),
        opened => opened.map_err(failed)?,
    };
    let mut at = if file.metadata().map_err(failed)?.len() < offset { 0 } else { offset };
    file.seek(SeekFrom::Start(at)).map_err(failed)?;
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        let count = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)?;
        if !line.ends_with(b"\n") && (count as u64) < MAX_LINE {
            return Ok(at);
        }
        take(&line);
        at += count as u64;
    }
}

impl Open {
    fn write(&mut self, event: &Event, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_millis().min(u128::from(u32::MAX)) as u64;
        let more = passed * u64::from(RATE) / 1000;
        if more > 0 {
            self.allowance = u64::from(self.allowance).saturating_add(more).min(BURST.into()) as u32;
            self.refilled = now;
        }
        if matches!(event.event, Happened::Deny | Happened::Error) {
            if self.allowance == 0 {
                self.left_out += 1;
                return;
            }
            self.allowance -= 1;
        }
        if self.left_out > 0 {
            let lines = std::mem::take(&mut self.left_out);
            let left_out =
                Event { detail: Some(format!("{lines} lines")), ..Event::now(Happened::LeftOut, Protocol::Other) };
            if !self.append(&left_out) {
                self.left_out = lines + 1;
                return;
            }
        }
        if !self.append(event) {
            self.left_out += 1;
        }
    }

    /// Whether it is in the record.
    fn append(&mut self, event: &Event) -> bool {
        if self.bytes >= MAX_BYTES {
            self.turn_over();
        }
        let mut line = if self.is_torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, event).expect("an event has only string keys");
        line.push(b'\n');
        self.is_torn = self.file.write_all(&line).is_err();
        self.bytes += line.len() as u64;
        !self.is_torn
    }

    /// Begins another file. Where that cannot be, this one goes on.
    fn turn_over(&mut self) {
        if std::fs::rename(&self.path, before(&self.path)).is_ok()
            && let Ok(file) = open(&self.path)
        {
            (self.file, self.is_torn) = (file, false);
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn what_is_written_is_read_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("egress.jsonl");
        let log = Log::open(&path).unwrap();
        let denied = Event::deny(Protocol::Dns, Reason::NotListed).of_host("evil.example");
        log.write(&denied);
        log.write(&denied);
        log.write(&Event::now(Happened::Allow, Protocol::Tcp));
        let (events, end) = Log::read(&path, 0).unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0], denied);
        assert_eq!(Log::read(&path, end).unwrap(), (vec![], end));
        let summary = log.summary();
        assert_eq!((summary.allowed, summary.denied, summary.denied_hosts["evil.example"]), (1, 2, 2));
        // Another start goes on with the same file.
        Log::open(&path).unwrap().write(&denied);
        assert_eq!(Log::read(&path, end).unwrap().0.len(), 1);
    }

    #[test]
    fn a_line_that_is_not_whole_is_left_and_one_that_cannot_be_read_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("egress.jsonl");
        std::fs::write(&path, "{\"at\":").unwrap();
        assert_eq!(Log::read(&path, 0).unwrap(), (vec![], 0));
        // Whoever goes on with it begins a line.
        let event = Event::now(Happened::Allow, Protocol::Tcp);
        Log::open(&path).unwrap().write(&event);
        assert_eq!(Log::read(&path, 0).unwrap().0, [event]);
        assert_eq!(Log::read(&dir.path().join("none"), 0).unwrap(), (vec![], 0));
    }

    #[test]
    fn what_is_no_record_is_told_and_what_is_passed_over_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("egress.jsonl");
        let event = Event::now(Happened::Allow, Protocol::Tcp);
        let line = serde_json::to_string(&event).unwrap();
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Log::load(&path)
        };
        assert_eq!(load("").unwrap(), (vec![], 0));
        assert_eq!(load(&format!("nonsense\n\n{line}\n{{\n{line}")).unwrap(), (vec![event.clone(), event], 2));
        for text in ["nonsense", "allow: []\npassthrough: []\n"] {
            let error = load(text).unwrap_err();
            assert!(error.to_string().contains("not a record of egress"), "{error}");
        }
    }

    #[test]
    fn what_comes_too_fast_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("egress.jsonl");
        let log = Log::open(&path).unwrap();
        let (event, now) = (Event::now(Happened::Deny, Protocol::Udp), Instant::now());
        let mut open = log.0.lock().unwrap();
        for _ in 0..BURST + 7 {
            open.write(&event, now);
        }
        open.write(&event, now + std::time::Duration::from_secs(1));
        drop(open);
        let (events, _) = Log::read(&path, 0).unwrap();
        assert_eq!(events.len(), BURST as usize + 2);
        assert_eq!(events[BURST as usize].detail.as_deref(), Some("7 lines"));
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told_when_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("egress.jsonl");
        let log = Log::open(&path).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut log.0.lock().unwrap().file, full);
        (0..3).for_each(|_| log.write(&Event::now(Happened::Allow, Protocol::Tcp)));
        log.0.lock().unwrap().file = file;
        (0..2).for_each(|_| log.write(&Event::now(Happened::Allow, Protocol::Tcp)));
        let (events, _) = Log::read(&path, 0).unwrap();
        let happened: Vec<_> = events.iter().map(|event| event.event).collect();
        assert_eq!(happened, [Happened::LeftOut, Happened::Allow, Happened::Allow]);
        assert_eq!(events[0].detail.as_deref(), Some("3 lines"));
    }

    #[test]
    fn a_file_that_is_full_makes_room_and_what_was_in_it_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("egress.jsonl");
        let log = Log::open(&path).unwrap();
        log.write(&Event::now(Happened::Allow, Protocol::Tcp));
        let (_, end) = Log::read(&path, 0).unwrap();
        log.0.lock().unwrap().bytes = MAX_BYTES;
        log.write(&Event::now(Happened::Deny, Protocol::Tcp));
        log.write(&Event::now(Happened::Close, Protocol::Tcp));
        let happened = |offset| -> Vec<Happened> {
            Log::read(&path, offset).unwrap().0.into_iter().map(|event| event.event).collect()
        };
        assert_eq!(happened(0), [Happened::Allow, Happened::Deny, Happened::Close]);
        // A reader that was at the end of the other file, longer than this one is so far.
        assert_eq!(happened(end * 10), [Happened::Deny, Happened::Close]);
    }
}
