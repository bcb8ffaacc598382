//! What is written down, and how often: a guest that tries the same thing a thousand times a second is told no a
//! thousand times, and one line a second says so.

use microagent_egress::{Event, Happened, Log, Protocol, Reason};
use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a denial stands for others just like it.
const SAME: Duration = Duration::from_secs(1);
/// How long what is of no particular connection is not repeated.
const RARE: Duration = Duration::from_mins(1);
/// Most different denials that are remembered. Beyond that each is written.
const REMEMBERED: usize = 1024;

/// Where decisions are written.
pub(crate) struct Record {
    log: Arc<Log>,
    denied: HashMap<Denial, Instant>,
    rare: HashMap<(Protocol, String), Instant>,
    failed: HashMap<Protocol, Instant>,
}

/// What makes denials alike.
type Denial = (Protocol, Reason, SocketAddrV4, Option<String>);

impl Record {
    pub(crate) fn new(log: Arc<Log>) -> Record {
        Record { log, denied: HashMap::new(), rare: HashMap::new(), failed: HashMap::new() }
    }

    /// Something went out.
    pub(crate) fn allow(&self, protocol: Protocol, host: Option<String>, to: SocketAddrV4, intercepted: Option<bool>) {
        let event = Event::now(Happened::Allow, protocol).with(host, SocketAddr::V4(to));
        self.log.write(&Event { intercepted, ..event });
    }

    /// Something did not go out.
    pub(crate) fn deny(
        &mut self,
        protocol: Protocol,
        reason: Reason,
        host: Option<String>,
        to: SocketAddrV4,
        now: Instant,
    ) {
        if self.denied.len() >= REMEMBERED {
            self.denied.retain(|_, at| now.duration_since(*at) < SAME);
        }
        let denial = (protocol, reason, to, host.clone());
        if self.denied.get(&denial).is_some_and(|at| now.duration_since(*at) < SAME) {
            return;
        }
        self.log.write(&Event::deny(protocol, reason).with(host, SocketAddr::V4(to)));
        if self.denied.len() < REMEMBERED {
            self.denied.insert(denial, now);
        }
    }

    /// Something of which it matters that it is tried, and not how often. There are few different details.
    pub(crate) fn deny_rarely(&mut self, protocol: Protocol, reason: Reason, detail: &str, now: Instant) {
        let what = (protocol, detail.to_owned());
        let last = self.rare.get(&what);
        if last.is_none_or(|at| now.duration_since(*at) >= RARE) {
            self.rare.insert(what, now);
            self.log.write(&Event { detail: Some(detail.to_owned()), ..Event::deny(protocol, reason) });
        }
    }

    /// What was allowed did not come about.
    pub(crate) fn fail(&self, protocol: Protocol, host: Option<String>, to: SocketAddrV4, detail: String) {
        let event = Event::now(Happened::Error, protocol).with(host, SocketAddr::V4(to));
        self.log.write(&Event { detail: Some(detail), ..event });
    }

    /// The same, of something that can be tried a thousand times a second.
    pub(crate) fn fail_rarely(
        &mut self,
        protocol: Protocol,
        host: Option<String>,
        to: SocketAddrV4,
        detail: String,
        now: Instant,
    ) {
        let last = self.failed.insert(protocol, now);
        if last.is_none_or(|at| now.duration_since(at) >= SAME) {
            self.fail(protocol, host, to, detail);
        } else if let Some(at) = last {
            self.failed.insert(protocol, at);
        }
    }

    /// What went out is over.
    pub(crate) fn close(&self, protocol: Protocol, host: Option<String>, to: SocketAddrV4, sent: u64, received: u64) {
        let event = Event::now(Happened::Close, protocol).with(host, SocketAddr::V4(to));
        self.log.write(&Event { bytes_sent: Some(sent), bytes_received: Some(received), ..event });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (tempfile::TempDir, Record) {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::open(&dir.path().join("egress.jsonl")).unwrap());
        (dir, Record::new(log))
    }

    fn lines(dir: &tempfile::TempDir) -> usize {
        Log::read(&dir.path().join("egress.jsonl"), 0).unwrap().0.len()
    }

    #[test]
    fn the_same_denial_is_written_once_a_second() {
        let (dir, mut record) = record();
        let (to, now) = ("192.0.2.1:80".parse().unwrap(), Instant::now());
        for _ in 0..100 {
            record.deny(Protocol::Tcp, Reason::NoName, None, to, now);
        }
        record.deny(Protocol::Udp, Reason::NoName, None, to, now);
        assert_eq!(lines(&dir), 2);
        record.deny(Protocol::Tcp, Reason::NoName, None, to, now + SAME);
        assert_eq!(lines(&dir), 3);
    }

    #[test]
    fn a_sweep_of_the_whole_network_is_written_and_not_remembered() {
        let (dir, mut record) = record();
        let now = Instant::now();
        for port in 1..=2000 {
            record.deny(Protocol::Tcp, Reason::NoName, None, SocketAddrV4::new([192, 0, 2, 1].into(), port), now);
        }
        assert_eq!((lines(&dir), record.denied.len()), (2000, REMEMBERED));
    }
}
