//! The thread on which connections are looked into.

use crate::connection::{self, Connection};
use crate::limits::CONNECTIONS;
use crate::upstream::{TokenClient, Trust};
use crate::{Authority, Error, Roots, Swaps};
use microagent_egress::{Event, Log, Protocol, Reason};
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What an [`Interceptor`] is made of.
#[derive(Debug)]
pub struct Options {
    /// What the guest trusts.
    pub authority: Authority,
    /// The credentials, and where they go.
    pub swaps: Swaps,
    /// Where it is written down.
    pub log: Arc<Log>,
    /// What servers are checked against.
    pub roots: Roots,
    /// How the endpoints are reached that give out tokens.
    pub connect: Arc<dyn Connect>,
}

/// Who connects with hosts that the machine has nothing to do with.
pub trait Connect: fmt::Debug + Send + Sync {
    /// A connection with `port` of `host`, a name or an address. It may wait, on a thread of its own, and is to come to an end by itself.
    fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream>;
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) authority: Authority,
    pub(crate) swaps: Swaps,
    pub(crate) log: Arc<Log>,
    pub(crate) trust: Trust,
    pub(crate) tokens: TokenClient,
}

/// Looks into connections, on a thread of its own. Dropping it ends them and the thread.
pub struct Interceptor {
    jobs: Option<UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
    open: Arc<AtomicUsize>,
    log: Arc<Log>,
}

struct Job {
    connection: Connection,
    guest: UnixStream,
    upstream: OwnedFd,
    place: Place,
}

/// One of the [`CONNECTIONS`].
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Interceptor {
    /// Starts the thread.
    pub fn start(options: Options) -> Result<Interceptor, Error> {
        let Options { authority, swaps, log, roots, connect } = options;
        let trust = Trust::new(roots)?;
        let tokens = TokenClient::new(&trust, connect);
        let shared = Arc::new(Shared { authority, swaps, log: Arc::clone(&log), trust, tokens });
        let failed = |source| Error::Start { source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (jobs, queue) = unbounded_channel();
        let work = move || {
            runtime.block_on(serve(queue, &shared));
            // A connection with a token endpoint may take a while to come about, and nobody waits for it any more.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("intercept".to_owned()).spawn(work).map_err(failed)?;
        Ok(Interceptor { jobs: Some(jobs), thread: Some(thread), open: Arc::default(), log })
    }

    /// Takes a connection over: from now on it speaks with the guest on `guest`, and with the server on `upstream`, a TCP socket that is
    /// connected to the address of `connection`. It does not block, and has no answer: what comes of it is in the log.
    pub fn take(&self, connection: Connection, guest: UnixStream, upstream: OwnedFd) {
        let connection = connection.normal();
        if self.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.log.write(&connection.event(Event::deny(Protocol::Tcp, Reason::TooMany)));
            return;
        }
        let job = Job { connection, guest, upstream, place: Place(Arc::clone(&self.open)) };
        // The thread is there for as long as this is: it fails for nobody.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

async fn serve(mut queue: UnboundedReceiver<Job>, shared: &Arc<Shared>) {
    while let Some(Job { connection, guest, upstream, place }) = queue.recv().await {
        match sockets(guest, upstream) {
            Ok((guest, upstream)) => {
                tokio::spawn(connection::run(Arc::clone(shared), connection, guest, upstream, place));
            }
            Err(error) => shared.log.write(&connection.failed(&error.to_string())),
        }
    }
}

fn sockets(guest: UnixStream, upstream: OwnedFd) -> io::Result<(tokio::net::UnixStream, tokio::net::TcpStream)> {
    let upstream = TcpStream::from(upstream);
    upstream.set_nonblocking(true)?;
    upstream.set_nodelay(true)?;
    guest.set_nonblocking(true)?;
    Ok((tokio::net::UnixStream::from_std(guest)?, tokio::net::TcpStream::from_std(upstream)?))
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It fails if the thread panicked, which has been reported there.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interceptor").field("open", &self.open.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}
