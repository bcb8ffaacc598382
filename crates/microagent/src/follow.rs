//! Following what happens to a workspace, and what it says.
//!
//! Nothing is asked twice: the kernel tells when a file of the workspace changes, and then it is looked at. A follower ends when nobody
//! runs the workspace any more and everything there is has been passed on.

use crate::{Client, Error};
use microagent_machine::log::KEPT;
use microagent_state::{Event, Name, Phase, Workspace, WorkspaceRecord};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// How much of what was passed on last is remembered, to find the place again in a log that has lost its beginning.
const REMEMBERED: usize = 4096;

/// One of the logs of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// The guest kernel's console.
    Console,
    /// Its command's standard output.
    Stdout,
    /// Its command's standard error.
    Stderr,
}

impl Client {
    /// Everything that happened to a workspace, in order, as far as it is kept.
    pub fn events(&self, name: &Name) -> Result<Vec<Event>, Error> {
        Ok(self.state().find(name)?.events(0)?.0)
    }

    /// Passes every event to `each`, and those that follow as they happen, until nobody runs the workspace or `each` says that it is
    /// enough with false.
    pub fn follow_events(&self, name: &Name, mut each: impl FnMut(&Event) -> bool) -> Result<(), Error> {
        let workspace = self.state().find(name)?;
        let mut offset = 0;
        follow_changes(&workspace, |_| {
            let (events, next) = workspace.events(offset)?;
            offset = next;
            Ok(events.iter().all(&mut each))
        })
    }

    /// Passes everything that left a workspace, or was not let out, to `each`, and what follows, in the same way.
    pub fn follow_egress(
        &self,
        name: &Name,
        mut each: impl FnMut(&microagent_egress::Event) -> bool,
    ) -> Result<(), Error> {
        let workspace = self.state().find(name)?;
        let mut offset = 0;
        follow_changes(&workspace, |_| {
            let (events, next) = microagent_egress::Log::read(&workspace.egress_log(), offset)?;
            offset = next;
            Ok(events.iter().all(&mut each))
        })
    }

    /// Passes what the `wanted` logs of a workspace hold to `each`, and what comes after, in the same way.
    pub fn follow_logs(
        &self,
        name: &Name,
        wanted: &[Log],
        mut each: impl FnMut(Log, &[u8]) -> bool,
    ) -> Result<(), Error> {
        let workspace = self.state().find(name)?;
        let mut followed: Vec<Followed> = wanted.iter().map(|&log| Followed::new(log, &workspace)).collect();
        follow_changes(&workspace, |record| {
            for log in &mut followed {
                let read = log
                    .read(record.session.as_deref(), record.phase)
                    .map_err(microagent_state::Error::io("read", &log.path))?;
                if !read.is_empty() && !each(log.log, &read) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// Calls `look` now and at every change, for the last time when nobody runs the workspace.
fn follow_changes(
    workspace: &Workspace,
    mut look: impl FnMut(&WorkspaceRecord) -> Result<bool, Error>,
) -> Result<(), Error> {
    let watch = workspace.watch()?;
    loop {
        // The order matters. Whoever runs a workspace says the last there is to say before it lets go of the lease, and some of it
        // after it has recorded the end.
        let held = workspace.is_held()?;
        let record = match workspace.status() {
            Err(microagent_state::Error::NotFound { .. }) => return Ok(()),
            record => record?,
        };
        if !look(&record)? || (!record.phase.is_live() && !held) {
            return Ok(());
        }
        watch.changed(None)?;
    }
}

/// A log, and how much of it has been passed on.
struct Followed {
    log: Log,
    path: PathBuf,
    offset: u64,
    /// The end of what was passed on.
    last: Vec<u8>,
    /// The machine whose log that was.
    session: Option<String>,
}

impl Followed {
    fn new(log: Log, workspace: &Workspace) -> Followed {
        let path = match log {
            Log::Console => workspace.serial_log(),
            Log::Stdout => workspace.stdout_log(),
            Log::Stderr => workspace.stderr_log(),
        };
        Followed { log, path, offset: 0, last: Vec::new(), session: None }
    }

    /// What is new, where `session` is the machine there is and `phase` where that is in its life.
    fn read(&mut self, session: Option<&str>, phase: Phase) -> io::Result<Vec<u8>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let length = file.metadata()?.len();
        let restarted = self.session.as_deref() != session;
        if restarted && (length < self.offset || phase != Phase::Starting) {
            // Every start begins its logs anew, the last of them before the machine counts as running.
            self.session = session.map(str::to_owned);
            (self.offset, self.last) = (0, Vec::new());
        } else if length < self.offset {
            if !restarted && length < KEPT && phase.is_live() {
                // It is being shortened this moment; the next change tells that it is done.
                return Ok(Vec::new());
            }
            self.offset = self.place_again(&mut file)?;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut new = Vec::new();
        file.take(2 * KEPT).read_to_end(&mut new)?;
        self.offset += new.len() as u64;
        self.last.extend_from_slice(&new);
        self.last.drain(..self.last.len().saturating_sub(REMEMBERED));
        Ok(new)
    }

    /// Where to go on in a log that has lost its beginning: behind what was passed on last, or with all there is when that has gone too.
    fn place_again(&self, file: &mut File) -> io::Result<u64> {
        let mut kept = Vec::new();
        file.rewind()?;
        file.take(KEPT).read_to_end(&mut kept)?;
        if self.last.is_empty() {
            return Ok(0);
        }
        let found = kept.windows(self.last.len()).rposition(|window| window == self.last);
        Ok(found.map_or(0, |start| (start + self.last.len()) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microagent_machine::log::BoundedLog;
    use microagent_state::StateDir;

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let dir = tempfile::tempdir().unwrap();
        let workspace = StateDir::open(dir.path()).unwrap().create(&Name::new("a").unwrap()).unwrap();
        (dir, workspace)
    }

    #[test]
    fn a_log_that_loses_its_beginning_is_followed_without_a_gap_or_an_echo() {
        let (_dir, workspace) = workspace();
        let mut log = BoundedLog::create(&workspace.stdout_log()).unwrap();
        let mut followed = Followed::new(Log::Stdout, &workspace);
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for line in 0..60_000 {
            let line = format!("line {line} of a service that says a lot and says it for a long time\n");
            log.append(line.as_bytes()).unwrap();
            said.extend_from_slice(line.as_bytes());
            if said.len() % 7 == 0 {
                heard.extend(followed.read(Some("one"), Phase::Running).unwrap());
            }
        }
        heard.extend(followed.read(Some("one"), Phase::Running).unwrap());
        assert!(heard == said, "{} bytes were said, {} heard", said.len(), heard.len());
    }

    #[test]
    fn a_new_start_begins_anew_and_an_old_log_is_not_told_twice() {
        let (_dir, workspace) = workspace();
        let mut followed = Followed::new(Log::Stdout, &workspace);
        let mut log = BoundedLog::create(&workspace.stdout_log()).unwrap();
        log.append(b"first\n").unwrap();
        assert_eq!(followed.read(Some("one"), Phase::Running).unwrap(), b"first\n");
        assert_eq!(followed.read(Some("two"), Phase::Starting).unwrap(), b"", "its log is still the old one");
        let mut log = BoundedLog::create(&workspace.stdout_log()).unwrap();
        log.append(b"the second is longer\n").unwrap();
        assert_eq!(followed.read(Some("two"), Phase::Running).unwrap(), b"the second is longer\n");
        assert_eq!(followed.read(Some("two"), Phase::Halted).unwrap(), b"");
    }
}
