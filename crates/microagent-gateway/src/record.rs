//! What is written down of what goes out, and of what does not.

use crate::quiet::Quiet;
use microagent_egress::{Event, Happened, Log, Protocol, Reason};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a denial stands for others just like it.
const SAME: Duration = Duration::from_secs(1);
/// How long what is of no particular connection is not repeated.
const RARE: Duration = Duration::from_mins(1);

/// Where decisions are written.
pub(crate) struct Record {
    log: Arc<Log>,
    denied: Quiet<Denial>,
    rare: Quiet<(Protocol, String)>,
    failed: Quiet<Protocol>,
}

/// What makes denials alike.
type Denial = (Protocol, Reason, SocketAddrV4, Option<String>);

impl Record {
    pub(crate) fn new(log: Arc<Log>) -> Record {
        Record { log, denied: Quiet::new(SAME), rare: Quiet::new(RARE), failed: Quiet::new(SAME) }
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
        if self.denied.is_new((protocol, reason, to, host.clone()), now) {
            self.log.write(&Event::deny(protocol, reason).with(host, SocketAddr::V4(to)));
        }
    }

    /// Something of which it matters that it is tried, and not how often.
    pub(crate) fn deny_rarely(&mut self, protocol: Protocol, reason: Reason, detail: &str, now: Instant) {
        if self.rare.is_new((protocol, detail.to_owned()), now) {
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
        if self.failed.is_new(protocol, now) {
            self.fail(protocol, host, to, detail);
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
    fn a_sweep_of_the_whole_network_is_written() {
        let (dir, mut record) = record();
        let now = Instant::now();
        for port in 1..=2000 {
            record.deny(Protocol::Tcp, Reason::NoName, None, SocketAddrV4::new([192, 0, 2, 1].into(), port), now);
        }
        assert_eq!(lines(&dir), 2000);
    }
}
