//! Secrets of a workspace: resolved before its machine is launched, and given to the guest when it is up.

use super::mediation;
use super::places;
use super::relay::Ends;
use crate::Error;
use microagent_machine::Channel;
use microagent_protocol::{ON_DEMAND, Request};
use microagent_secret::{Name, Reference, Secret, Sources};
use microagent_state::{SecretsRecord, Workspace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the guest may take to write a secret down.
const DELIVERY_LIMIT: Duration = Duration::from_mins(1);

/// Most requests that are answered at once: each may run a helper, or ask a server.
const MAX_REQUESTS: usize = 8;

/// How long a request may take to come.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Most bytes of the record. What came before is in another file beside it then, and what came before that is gone.
const MAX_RECORD: u64 = 32 << 20;

/// Lines of what gave out nothing that are written at once, and in a second from then on. Of what is more only the number is written: a
/// guest can ask as fast as it likes. What is given out is always written.
const BURST: u32 = 200;
const RATE: u32 = 20;

/// Most bytes of a request for a secret.
const MAX_REQUEST: u64 = 8 << 10;

/// What became of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretOutcome {
    /// It was put into its file.
    Delivered,
    /// It was handed out.
    Fetched,
    /// No secret of that name is declared.
    Denied,
    /// It could not be had.
    Failed,
}

/// A line of the record of secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretAccess {
    /// When.
    pub at: jiff::Timestamp,
    /// Its name.
    pub secret: String,
    /// What became of it.
    pub outcome: SecretOutcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How many accesses before it are not in the record: too many at once that gave out nothing, or a file that could not be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

/// The record of accesses, where it is wanted.
#[derive(Debug)]
struct Audit(Option<Mutex<Accesses>>);

#[derive(Debug)]
struct Accesses {
    path: PathBuf,
    /// Lines that may be written now of what gave out nothing.
    allowance: u32,
    refilled: Instant,
    /// Lines that were not.
    left_out: u64,
    /// The last line may not be whole.
    is_torn: bool,
}

impl Audit {
    fn new(path: Option<PathBuf>) -> Audit {
        let accesses =
            |path| Accesses { path, allowance: BURST, refilled: Instant::now(), left_out: 0, is_torn: false };
        Audit(path.map(|path| Mutex::new(accesses(path))))
    }

    fn write(&self, secret: &str, outcome: SecretOutcome, detail: Option<String>) {
        let Some(accesses) = &self.0 else { return };
        let (at, secret) = (jiff::Timestamp::now(), secret.to_owned());
        let access = SecretAccess { at, secret, outcome, detail, left_out: None };
        accesses.lock().unwrap_or_else(PoisonError::into_inner).write(access, Instant::now());
    }
}

impl Accesses {
    fn write(&mut self, access: SecretAccess, now: Instant) {
        let gave_nothing = matches!(access.outcome, SecretOutcome::Denied | SecretOutcome::Failed);
        if gave_nothing && !self.may_write(now) {
            self.left_out += 1;
            return;
        }
        let access = SecretAccess { left_out: (self.left_out > 0).then_some(self.left_out), ..access };
        // A full disk must not keep a workload from its secrets; the next line that can be written tells of this one.
        match self.append(&access) {
            Ok(()) => self.left_out = 0,
            Err(_) => self.left_out += 1,
        }
    }

    fn may_write(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled).as_millis();
        let more = u32::try_from(passed * u128::from(RATE) / 1000).unwrap_or(u32::MAX);
        if more > 0 {
            self.allowance = self.allowance.saturating_add(more).min(BURST);
            self.refilled = now;
        }
        let left = self.allowance.checked_sub(1);
        self.allowance = left.unwrap_or(0);
        left.is_some()
    }

    fn append(&mut self, access: &SecretAccess) -> std::io::Result<()> {
        let open = |path: &Path| File::options().create(true).append(true).mode(0o600).open(path);
        let mut file = open(&self.path)?;
        // Where it cannot be another file, this one goes on.
        if file.metadata()?.len() >= MAX_RECORD && std::fs::rename(&self.path, before(&self.path)).is_ok() {
            file = open(&self.path)?;
            self.is_torn = false;
        }
        let mut line = if self.is_torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, access).expect("an access has only string keys");
        line.push(b'\n');
        let written = file.write_all(&line);
        self.is_torn = written.is_err();
        written
    }
}

/// The record that came before the one at `path`.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Secrets that have been resolved.
pub(super) struct Resolved {
    files: BTreeMap<Name, Secret>,
    on_demand: Arc<OnDemand>,
}

struct OnDemand {
    references: BTreeMap<String, Reference>,
    sources: Sources,
    audit: Audit,
}

impl Resolved {
    /// Resolves the secrets of `record`. Those on demand are only read.
    pub(super) fn new(record: &SecretsRecord, workspace: &Workspace) -> Result<Resolved, Error> {
        let sources = Sources::of_process();
        let audit = Audit::new(record.audit.then(|| workspace.secrets_log()));
        let mut files = BTreeMap::new();
        for path in &record.env_files {
            files.extend(microagent_secret::dotenv::load(path)?);
        }
        for (name, reference) in &record.files {
            let reference: Reference = reference.parse()?;
            let value = sources.resolve(&reference).inspect_err(|error| {
                audit.write(name, SecretOutcome::Failed, Some(error.to_string()));
            })?;
            files.insert(name.parse()?, value);
        }
        let references = record.on_demand.iter().map(|(name, reference)| Ok((name.clone(), reference.parse()?)));
        let references = references.collect::<Result<_, Error>>()?;
        Ok(Resolved { files, on_demand: Arc::new(OnDemand { references, sources, audit }) })
    }

    /// Whether any become files.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Whether there are any on demand.
    pub(super) fn has_on_demand(&self) -> bool {
        !self.on_demand.references.is_empty()
    }

    /// Puts them into their files, for `user`.
    pub(super) fn deliver(&self, channel: &Channel, user: &str) -> Result<(), Error> {
        let deadline = Some(Instant::now() + DELIVERY_LIMIT);
        for (name, value) in &self.files {
            let mut input = channel.input();
            let (name, user) = (name.to_string(), user.to_owned());
            let call = channel.call(&Request::Secret { name: name.clone(), user, input: input.id() })?;
            // What is not taken is told by the reply.
            let _ = input.write_all(value.expose());
            input.finish();
            call.wait(deadline)?;
            self.on_demand.audit.write(&name, SecretOutcome::Delivered, None);
        }
        Ok(())
    }

    /// None at all, for a machine in which programs ask for some that it is not given any more: they are told so.
    pub(super) fn none() -> Resolved {
        let on_demand =
            OnDemand { references: BTreeMap::new(), sources: Sources::of_process(), audit: Audit::new(None) };
        Resolved { files: BTreeMap::new(), on_demand: Arc::new(on_demand) }
    }

    /// Answers those who ask for one, for as long as the machine lives. Its guest has the socket.
    pub(super) fn serve(&self, channel: &Channel) {
        let secrets = Arc::clone(&self.on_demand);
        mediation::serve_socket(channel, ON_DEMAND.to_owned(), MAX_REQUESTS, move |ends| secrets.answer(ends));
    }
}

impl OnDemand {
    /// Answers one request, `GET /NAME` over HTTP/1.1 (RFC 9112), with the value as the body.
    fn answer(&self, ends: Ends) {
        let Ends { mut input, output } = ends;
        // Whoever says nothing is told so, and lets others have its place.
        let (said, asked) = std::sync::mpsc::channel();
        places::spawn(move || _ = said.send(requested(output)));
        let Some(name) = asked.recv_timeout(REQUEST_LIMIT).ok().flatten() else {
            let _ = respond(&mut input, "400 Bad Request", b"a request is `GET /NAME`\n");
            return;
        };
        let Some(reference) = self.references.get(&name) else {
            self.audit.write(&printable(&name), SecretOutcome::Denied, None);
            let _ = respond(&mut input, "403 Forbidden", b"no secret of that name is declared\n");
            return;
        };
        match self.sources.resolve(reference) {
            Ok(value) => {
                self.audit.write(&name, SecretOutcome::Fetched, None);
                let _ = respond(&mut input, "200 OK", value.expose());
            }
            Err(error) => {
                self.audit.write(&name, SecretOutcome::Failed, Some(error.to_string()));
                let _ = respond(&mut input, "502 Bad Gateway", b"the secret cannot be had; the host knows why\n");
            }
        }
    }
}

/// What a request asks for, of which only the first line counts.
fn requested(output: impl Read) -> Option<String> {
    let (mut head, mut output) = (Vec::new(), output.take(MAX_REQUEST));
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match output.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => head.extend_from_slice(&chunk[..count]),
        }
    }
    let line = head.split(|&byte| byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("GET"), Some(path), Some("HTTP/1.1" | "HTTP/1.0"), None) => path.strip_prefix('/').map(str::to_owned),
        _ => None,
    }
}

fn respond(to: &mut impl Write, status: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        to,
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )?;
    to.write_all(body)
}

/// The guest's word, as it may stand in a record.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// The accesses on record at `path`, and before it.
pub(crate) fn read(path: &Path) -> Result<Vec<SecretAccess>, Error> {
    let mut accesses = Vec::new();
    for path in [before(path).as_path(), path] {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.map_err(microagent_state::Error::io("read", path))?,
        };
        // A line that a full disk has cut is passed over.
        accesses.extend(text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
    }
    Ok(accesses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_names_a_secret_and_nothing_else_counts() {
        let asked = |text: &str| requested(text.as_bytes());
        assert_eq!(asked("GET /TOKEN HTTP/1.1\r\nHost: secrets\r\n\r\n").as_deref(), Some("TOKEN"));
        for text in
            ["", "GET /TOKEN HTTP/1.1\r\n", "POST /T HTTP/1.1\r\n\r\n", "GET T HTTP/1.1\r\n\r\n", "GET /T\r\n\r\n"]
        {
            assert_eq!(asked(text), None, "{text:?}");
        }
        assert_eq!(asked(&format!("GET /T HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000))), None);
    }

    fn audited(dir: &Path) -> (PathBuf, Accesses) {
        let path = dir.join("secrets.jsonl");
        let accesses = Audit::new(Some(path.clone())).0.unwrap().into_inner().unwrap();
        (path, accesses)
    }

    fn access(outcome: SecretOutcome) -> SecretAccess {
        SecretAccess { at: jiff::Timestamp::UNIX_EPOCH, secret: "T".to_owned(), outcome, detail: None, left_out: None }
    }

    #[test]
    fn a_flood_of_what_is_denied_is_counted_and_what_is_given_out_always_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut accesses) = audited(dir.path());
        let now = accesses.refilled;
        (0..BURST + 7).for_each(|_| accesses.write(access(SecretOutcome::Denied), now));
        (0..BURST + 7).for_each(|_| accesses.write(access(SecretOutcome::Fetched), now));
        accesses.write(access(SecretOutcome::Failed), now);
        accesses.write(access(SecretOutcome::Denied), now + Duration::from_secs(1));
        let read = read(&path).unwrap();
        let of = |outcome| read.iter().filter(|access| access.outcome == outcome).count();
        assert_eq!(of(SecretOutcome::Denied), BURST as usize + 1);
        assert_eq!(of(SecretOutcome::Fetched), BURST as usize + 7);
        assert_eq!(read[BURST as usize].left_out, Some(7));
        assert_eq!(read.last().unwrap().left_out, Some(1));
        assert_eq!(read.iter().filter(|access| access.left_out.is_some()).count(), 2);
    }

    #[test]
    fn a_record_that_is_full_makes_room_and_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut accesses) = audited(dir.path());
        accesses.write(access(SecretOutcome::Delivered), Instant::now());
        File::options().write(true).open(&path).unwrap().set_len(MAX_RECORD).unwrap();
        accesses.write(access(SecretOutcome::Fetched), Instant::now());
        let outcomes: Vec<_> = read(&path).unwrap().iter().map(|access| access.outcome).collect();
        assert_eq!(outcomes, [SecretOutcome::Delivered, SecretOutcome::Fetched]);
        assert!(std::fs::metadata(&path).unwrap().len() < 1000);
    }

    #[test]
    fn what_could_not_be_written_is_told_by_the_next_line_that_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut accesses) = audited(dir.path());
        accesses.path = "/dev/full".into();
        (0..3).for_each(|_| accesses.write(access(SecretOutcome::Fetched), Instant::now()));
        accesses.path.clone_from(&path);
        accesses.write(access(SecretOutcome::Delivered), Instant::now());
        let [last] = read(&path).unwrap().try_into().unwrap();
        assert_eq!(last, SecretAccess { left_out: Some(3), ..access(SecretOutcome::Delivered) });
    }

    proptest! {
        #[test]
        fn whatever_a_guest_says_is_a_request_or_none(
            line in "(GET|POST| |/|[A-Z_]{1,9}|HTTP/1\\.[01]|\\PC|[\r\n]){0,12}",
            rest in proptest::collection::vec(any::<u8>(), 0..100),
            is_whole in any::<bool>(),
        ) {
            let end: &[u8] = if is_whole { b"\r\n\r\n" } else { b"" };
            let said = [line.as_bytes(), &rest, end].concat();
            if let Some(name) = requested(said.as_slice()) {
                let line = format!("GET /{name} HTTP/1.");
                prop_assert!(said.starts_with(line.as_bytes()));
                prop_assert!(printable(&name).chars().all(|c| !c.is_control()));
            }
        }
    }
}
