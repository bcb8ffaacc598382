//! What the servers of an internet have seen.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Out in the internet.
    Net,
    /// On the host itself, where nothing of a guest is ever to arrive.
    Host,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A packet came that is not part of a connection: the first of one, a datagram, an echo request, a fragment. Seen
    /// whether anything listens there or not. On the host, only what comes over loopback. Details: `protocol`
    /// (`tcp`, `udp`, `icmp`, `ipv6`, or a number), `fragment` (the offset), `type` (of ICMP).
    Packet,
    /// A connection was accepted.
    Connect,
    /// A connection is over. Details: `how` (`end`, `reset`, or an error), `received`, `sent`.
    Close,
    /// A datagram came to a port that takes them. Details: `bytes`.
    Datagram,
    /// A question was asked. Details: `name`, `type`, `id`, `transport`.
    Question,
    /// A TLS handshake is done. Details: `name`, `version`, `alpn`.
    Tls,
    /// A TLS handshake failed. Details: `name`, `error`.
    TlsFailed,
    /// The head of a request was read. Details: `method`, `target`, `host`, `headers`, `tls`; or `malformed`.
    Request,
    /// A body was read to its end. Details: `bytes`, `sha256`.
    Body,
}

/// One thing that a server has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Where the server is.
    pub place: Place,
    /// What it was.
    pub kind: Kind,
    /// The end at the server. For what has no ports, the port is 0.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// More about it, by [`Kind`].
    pub details: Value,
}

impl Seen {
    /// A detail that is text; empty where there is none.
    pub fn text(&self, detail: &str) -> &str {
        self.details[detail].as_str().unwrap_or_default()
    }

    /// A detail that is a number; 0 where there is none.
    pub fn number(&self, detail: &str) -> u64 {
        self.details[detail].as_u64().unwrap_or_default()
    }

    /// Whether it happened at this port of an address, as in `192.0.2.10:80`.
    pub fn is_at(&self, local: &str) -> bool {
        self.local == local.parse().expect("an address with a port")
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { place, kind, local, remote, details } = self;
        write!(f, "{place:?} {kind:?} at {local} from {remote}: {details}")
    }
}

/// A line of a server.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Seen { kind: Kind, local: SocketAddr, remote: SocketAddr, details: Value },
    Done(u64),
}

/// Everything seen so far, by all servers.
#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    net: Progress,
    host: Progress,
}

/// How far a server is.
#[derive(Debug, Default)]
struct Progress {
    done: u64,
    ended: bool,
}

impl State {
    fn of(&mut self, place: Place) -> &mut Progress {
        match place {
            Place::Net => &mut self.net,
            Place::Host => &mut self.host,
        }
    }
}

impl Journal {
    /// Takes down what the server at `place` said.
    pub(super) fn line(&self, place: Place, line: &str) {
        let line = serde_json::from_str(line).unwrap_or_else(|error| panic!("the journal has `{line}`: {error}"));
        let mut state = self.state();
        match line {
            Line::Seen { kind, local, remote, details } => {
                state.seen.push(Seen { place, kind, local, remote, details });
            }
            Line::Done(command) => state.of(place).done = command,
        }
        self.changed.notify_all();
    }

    /// Takes down that the server at `place` says nothing any more.
    pub(super) fn end(&self, place: Place) {
        self.state().of(place).ended = true;
        self.changed.notify_all();
    }

    /// Waits until the server at `place` has done `command`: false if it ended, or not in time.
    pub(super) fn done(&self, place: Place, command: u64, deadline: Duration) -> bool {
        let over = |state: &mut State| {
            let progress = state.of(place);
            if progress.done >= command { Some(true) } else { progress.ended.then_some(false) }
        };
        self.wait(deadline, over).unwrap_or(false)
    }

    /// Waits for something that `wanted` likes.
    pub(super) fn wait_for(&self, deadline: Duration, mut wanted: impl FnMut(&Seen) -> bool) -> Option<Seen> {
        let mut looked = 0;
        self.wait(deadline, |state| {
            let found = state.seen[looked..].iter().find(|seen| wanted(seen)).cloned();
            looked = state.seen.len();
            found
        })
    }

    /// A copy of it.
    pub(super) fn all(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    fn wait<T>(&self, deadline: Duration, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
