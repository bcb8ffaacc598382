//! The interceptor, and the way to it.

use super::{Ca, Kind, Server};
use microagent_egress::{Event, Happened, Log, Reason};
use microagent_intercept::{Authority, Connect, Connection, Interceptor, Options, Roots, SwapConfig, Swaps};
use microagent_secret::Sources;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An interceptor, a server of one name, and the record.
pub(crate) struct Bed {
    pub(crate) name: String,
    pub(crate) server: Server,
    pub(crate) interceptor: Arc<Interceptor>,
    /// What the guest trusts.
    pub(crate) guest_pem: String,
    tls: bool,
    dir: Arc<TempDir>,
}

/// Connects with whatever is named.
#[derive(Debug)]
struct Direct;

impl Connect for Direct {
    fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        TcpStream::connect((host, port))
    }
}

pub(crate) const BOTH: [&str; 2] = ["h2", "http/1.1"];

impl Bed {
    /// A server of `api.example` that speaks `protocols`, and no credentials.
    pub(crate) fn speaking(protocols: &[&str]) -> Bed {
        Bed::with("api.example", Kind::Valid, protocols, Swaps::none())
    }

    /// A server of `name` that speaks HTTP/1.1 and 2, and the credentials that `config` says of `variables`.
    pub(crate) fn swapping(name: &str, config: &SwapConfig, variables: &[(&str, &str)]) -> Bed {
        let swaps = config.resolve(&Sources::of_variables(variables.iter().copied())).unwrap();
        Bed::with(name, Kind::Valid, &BOTH, swaps)
    }

    pub(crate) fn with(name: &str, kind: Kind, protocols: &[&str], swaps: Swaps) -> Bed {
        let ca = Ca::new();
        let server = Server::start(Some(ca.server(name, kind, protocols)));
        Bed::between(name, server, true, &ca, swaps)
    }

    /// A server without TLS.
    pub(crate) fn plain(swaps: Swaps) -> Bed {
        Bed::between("api.example", Server::start(None), false, &Ca::new(), swaps)
    }

    pub(crate) fn between(name: &str, server: Server, tls: bool, ca: &Ca, swaps: Swaps) -> Bed {
        Bed::connecting(name, server, tls, ca, swaps, Arc::new(Direct))
    }

    /// One that reaches token endpoints by `connect`.
    pub(crate) fn connecting(
        name: &str,
        server: Server,
        tls: bool,
        ca: &Ca,
        swaps: Swaps,
        connect: Arc<dyn Connect>,
    ) -> Bed {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let log = Arc::new(Log::open(&dir.path().join("egress.jsonl")).unwrap());
        let authority = Authority::new("test").unwrap();
        let guest_pem = authority.certificate_pem().to_owned();
        let roots = Roots::none().with_pem(ca.pem().as_bytes()).unwrap();
        let interceptor = Arc::new(Interceptor::start(Options { authority, swaps, log, roots, connect }).unwrap());
        Bed { name: name.to_owned(), server, interceptor, guest_pem, tls, dir }
    }

    /// Another server behind the same interceptor.
    pub(crate) fn beside(&self, name: &str, server: Server) -> Bed {
        Bed {
            name: name.to_owned(),
            server,
            interceptor: Arc::clone(&self.interceptor),
            guest_pem: self.guest_pem.clone(),
            tls: self.tls,
            dir: Arc::clone(&self.dir),
        }
    }

    /// The guest's end of a new connection.
    pub(crate) fn open(&self) -> UnixStream {
        open(&self.interceptor, &self.name, self.server.address, self.tls)
    }

    /// What is in the record.
    pub(crate) fn events(&self) -> Vec<Event> {
        Log::read(&self.dir.path().join("egress.jsonl"), 0).unwrap().0
    }

    /// The record as it is written.
    pub(crate) fn record(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("egress.jsonl")).unwrap()
    }

    /// Waits for a denial for `reason`, and gives its detail.
    pub(crate) fn denied(&self, reason: Reason) -> String {
        let event = self.event(|event| event.event == Happened::Deny && event.reason == Some(reason));
        assert_eq!(event.host.as_deref(), Some(self.name.as_str()));
        assert_eq!(event.port, Some(self.server.address.port()));
        event.detail.unwrap_or_default()
    }

    /// Waits for an event. It is written on another thread than the test's, and a client may be answered before.
    pub(crate) fn event(&self, is_it: impl Fn(&Event) -> bool) -> Event {
        let until = Instant::now() + super::DEADLINE;
        loop {
            if let Some(event) = self.events().into_iter().find(&is_it) {
                return event;
            }
            assert!(Instant::now() < until, "not in the record: {:#?}", self.events());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn open(interceptor: &Interceptor, name: &str, address: SocketAddr, tls: bool) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let upstream = TcpStream::connect(address).unwrap();
    upstream.set_nonblocking(true).unwrap();
    interceptor.take(Connection { name: name.to_owned(), address, tls }, theirs, upstream.into());
    ours.set_nonblocking(true).unwrap();
    ours
}
