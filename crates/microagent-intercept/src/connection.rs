//! One connection, from its first byte to its last.

use crate::denial::{Answer, BodyError, Denial};
use crate::exchange::Exchange;
use crate::gate::{Gate, Signals};
use crate::interceptor::{Place, Shared};
use crate::limits::{CONNECTION_WINDOW, HEAD_BYTES, HEAD_FIELDS, HEAD_TIME, STREAM_BUFFER, STREAM_WINDOW, STREAMS};
use crate::scan::Scanned;
use crate::target::Target;
use crate::upstream::Untrusted;
use hyper::body::Incoming;
use hyper::http::Request;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use microagent_egress::{Event, Happened, Protocol, Reason};
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

mod version;

use version::Version;

/// A connection of the guest's that was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The name that it was allowed for.
    pub name: String,
    /// The address it goes to.
    pub address: SocketAddr,
    /// Whether it opens with TLS; with HTTP otherwise.
    pub tls: bool,
}

impl Connection {
    /// With its name as it is compared.
    pub(crate) fn normal(self) -> Connection {
        let name = self.name.strip_suffix('.').unwrap_or(&self.name).to_ascii_lowercase();
        Connection { name, ..self }
    }

    /// `event`, of this connection.
    pub(crate) fn event(&self, event: Event) -> Event {
        Event { intercepted: Some(true), ..event.with(Some(self.name.clone()), self.address) }
    }

    /// That it did not come about.
    pub(crate) fn failed(&self, reason: &str) -> Event {
        let event = Event::now(Happened::Error, Protocol::Tcp);
        self.event(Event { detail: Some(reason.to_owned()), ..event })
    }
}

/// Both ways of a stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Looks into one connection until it is over.
pub(crate) async fn run(
    shared: Arc<Shared>,
    connection: Connection,
    guest: UnixStream,
    upstream: TcpStream,
    place: Place,
) {
    let closed = match Closed::new(&guest) {
        Ok(closed) => Arc::new(closed),
        Err(error) => return shared.log.write(&connection.failed(&format!("it cannot be watched: {error}"))),
    };
    let served = Served { shared, connection, place: Arc::new(place), closed };
    if served.connection.tls { served.tls(guest, upstream).await } else { served.plain(guest, upstream).await }
}

/// One connection, with what it needs.
#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    connection: Connection,
    place: Arc<Place>,
    closed: Arc<Closed>,
}

/// Tells when a stream is closed, both ways. One that is shut on the guest's side alone still takes an answer.
struct Closed(AsyncFd<OwnedFd>);

impl Closed {
    /// Of `stream`. What arrives in it is not looked at: of this interest, only that it is closed is ever told.
    #[expect(deprecated, reason = "what took its place is unsafe, for descriptors that are not owned as this one is")]
    fn new(stream: &UnixStream) -> io::Result<Closed> {
        Ok(Closed(AsyncFd::with_interest(stream.as_fd().try_clone_to_owned()?, Interest::PRIORITY)?))
    }

    async fn wait(&self) {
        while self.0.ready(Interest::PRIORITY).await.is_ok_and(|mut guard| {
            let is_open = !guard.ready().is_read_closed();
            guard.clear_ready();
            is_open
        }) {}
        // What was said before is still to be read.
        tokio::task::yield_now().await;
    }
}

impl Served {
    fn record(&self, event: Event) {
        self.shared.log.write(&self.connection.event(event));
    }

    fn deny(&self, reason: Reason, detail: &str) {
        self.record(Event { detail: Some(detail.to_owned()), ..Event::deny(Protocol::Tcp, reason) });
    }

    fn fail(&self, reason: &str) {
        self.shared.log.write(&self.connection.failed(reason));
    }

    async fn plain(self, guest: UnixStream, upstream: TcpStream) {
        match timeout(HEAD_TIME, Version::of_opening(&guest)).await {
            Ok(Ok(version)) => self.pass(version, guest, upstream).await,
            Ok(Err(error)) => self.fail(&format!("the guest said nothing: {error}")),
            Err(_) => self.fail("the guest said nothing in time"),
        }
    }

    async fn tls(self, guest: UnixStream, upstream: TcpStream) {
        let start = match timeout(HEAD_TIME, LazyConfigAcceptor::new(Acceptor::default(), guest)).await {
            Ok(Ok(start)) => start,
            Ok(Err(error)) => return self.fail(&format!("the guest did not begin TLS: {error}")),
            Err(_) => return self.fail("the guest did not begin TLS in time"),
        };
        let hello = start.client_hello();
        let said = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        if said.strip_suffix('.').unwrap_or(&said) != self.connection.name {
            let reason = if said.is_empty() { Reason::NoServerName } else { Reason::NameMismatch };
            self.deny(reason, &format!("the server is named `{said}`"));
            return refuse(start).await;
        }
        let Some(offered) = Version::offered(hello.alpn()) else {
            self.deny(Reason::NotInspectable, "it offers neither HTTP/1.1 nor HTTP/2");
            return refuse(start).await;
        };
        let protocols = offered.iter().map(|version| version.alpn().to_vec()).collect();
        let upstream = match self.shared.trust.connect(&self.connection.name, upstream, protocols).await {
            Ok(upstream) => upstream,
            Err(untrusted) => return self.explain(start, untrusted, &offered).await,
        };
        let chosen = upstream.get_ref().1.alpn_protocol();
        let version = chosen.map_or(Some(Version::Http1), Version::named);
        // A server chooses of what is offered (RFC 7301, 3.2), and rustls has seen to it.
        let Some(version) = version else { return refuse(start).await };
        if let Some(guest) = self.accept(start, chosen.is_some().then_some(version)).await {
            self.pass(version, guest, upstream).await;
        }
    }

    /// Completes TLS with the guest. It is told `version` where the server has told one.
    async fn accept(&self, start: StartHandshake<UnixStream>, version: Option<Version>) -> Option<impl Stream + use<>> {
        let leaf = match self.shared.authority.leaf(&self.connection.name) {
            Ok(leaf) => leaf,
            Err(error) => {
                self.fail(&error.to_string());
                return None;
            }
        };
        let config = server_config(Some(leaf), version).ok()?;
        match timeout(HEAD_TIME, start.into_stream(config)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                self.fail(&format!("the guest did not complete TLS: {error}"));
                None
            }
            Err(_) => {
                self.fail("the guest did not complete TLS in time");
                None
            }
        }
    }

    /// Tells the guest, in an answer to whatever it asks, why there is no server.
    async fn explain(self, start: StartHandshake<UnixStream>, untrusted: Untrusted, offered: &[Version]) {
        let denial = match untrusted {
            Untrusted::Certificate(reason) => {
                self.deny(Reason::Certificate, &reason);
                Denial::with(Reason::Certificate, reason)
            }
            Untrusted::Failed(reason) => {
                self.fail(&reason);
                Denial::Failed(reason)
            }
        };
        let version = offered.first().copied();
        if let Some(guest) = self.accept(start, version).await {
            let answered = Exchange::new(&self.shared, &self.connection, Target::nobody(denial), &self.place);
            self.serve(version.unwrap_or(Version::Http1), guest, Arc::new(answered), std::future::pending()).await;
        }
    }

    /// Passes requests on from `guest` to `upstream`, which speak the same.
    async fn pass(self, version: Version, guest: impl Stream, upstream: impl Stream) {
        let io = TokioIo::new(upstream);
        let made = match version {
            Version::Http1 => {
                let mut builder = client::conn::http1::Builder::new();
                builder.max_headers(HEAD_FIELDS).max_header_size(HEAD_BYTES).preserve_header_case(true);
                builder.handshake::<_, Scanned>(io).await.map(|(sender, driver)| {
                    let driver: Driver = Box::pin(async move { driver.with_upgrades().await });
                    (Target::http1(sender), driver)
                })
            }
            Version::Http2 => {
                let mut builder = client::conn::http2::Builder::new(TokioExecutor::new());
                builder
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_send_buf_size(STREAM_BUFFER)
                    .max_header_list_size(HEAD_BYTES as u32);
                builder.handshake::<_, Scanned>(io).await.map(|(sender, driver)| {
                    let driver: Driver = Box::pin(driver);
                    (Target::http2(sender), driver)
                })
            }
        };
        match made {
            Ok((target, driver)) => {
                let exchange = Arc::new(Exchange::new(&self.shared, &self.connection, target, &self.place));
                self.serve(version, guest, exchange, driver).await;
            }
            Err(error) => self.fail(&format!("the server did not begin HTTP: {error}")),
        }
    }

    /// Answers requests from `guest` until it, or the `driver` of the server's side, has come to its end.
    async fn serve(
        &self,
        version: Version,
        guest: impl Stream,
        exchange: Arc<Exchange>,
        driver: impl Future<Output = hyper::Result<()>>,
    ) {
        let signals = exchange.signals();
        let service = service_fn(move |request: Request<Incoming>| {
            let exchange = Arc::clone(&exchange);
            async move { exchange.answer(request).await }
        });
        let driver = pin!(driver);
        match version {
            Version::Http1 => {
                let mut builder = server::conn::http1::Builder::new();
                builder
                    .max_headers(HEAD_FIELDS)
                    .max_header_size(HEAD_BYTES)
                    .preserve_header_case(true)
                    .auto_date_header(false)
                    // Whoever has asked may say that it asks nothing more, and still waits for the answer.
                    .half_close(true);
                let io = TokioIo::new(Gate::new(guest, Arc::clone(&signals)));
                let served = pin!(builder.serve_connection(io, service).with_upgrades());
                let over = until_over(served, driver, |served| {
                    // The server's side ends as well when it becomes one of WebSocket, and then nothing is over.
                    if !signals.may_be_upgraded() {
                        served.graceful_shutdown();
                    }
                });
                tokio::select! {
                    biased;
                    () = over => {}
                    () = self.closed.wait() => {}
                }
            }
            Version::Http2 => {
                let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
                builder
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_send_buf_size(STREAM_BUFFER)
                    .max_concurrent_streams(STREAMS)
                    .max_header_list_size(HEAD_BYTES as u32)
                    .auto_date_header(false);
                let served = pin!(builder.serve_connection(TokioIo::new(guest), service));
                until_over(served, driver, server::conn::http2::Connection::graceful_shutdown).await;
            }
        }
        self.record_refusal(&signals);
    }

    fn record_refusal(&self, signals: &Signals) {
        if let Some(refusal) = signals.refusal() {
            self.record(Denial::from(refusal).event());
        }
    }
}

/// The task of a client's side.
type Driver = std::pin::Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Runs `served` to its end, and `driver` beside it. When that ends before, `shut` is to let what is under way come to its end.
async fn until_over<S, F, D>(mut served: std::pin::Pin<&mut S>, mut driver: D, shut: F)
where
    S: Future,
    F: FnOnce(std::pin::Pin<&mut S>),
    D: Future + Unpin,
{
    tokio::select! {
        biased;
        _ = &mut driver => {}
        _ = &mut served => return,
    }
    shut(served.as_mut());
    let _ = served.await;
}

/// Ends TLS before it began, with an alert that says that it is not wanted (RFC 8446, 6.2: `access_denied`).
async fn refuse(start: StartHandshake<UnixStream>) {
    if let Ok(config) = server_config(None, None) {
        // It fails, as it is to: rustls sends that alert where there is no certificate.
        let _ = timeout(HEAD_TIME, start.into_stream(config)).await;
    }
}

/// The one certificate of a connection, or none.
#[derive(Debug)]
struct Certificate(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

fn server_config(
    leaf: Option<Arc<CertifiedKey>>,
    version: Option<Version>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Certificate(leaf)));
    config.alpn_protocols = version.iter().map(|version| version.alpn().to_vec()).collect();
    // Nothing would be there to resume: each connection has a configuration of its own.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a service answers with.
pub(crate) type Answered = Result<Answer, BodyError>;
