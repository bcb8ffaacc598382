//! The side of the servers.

use crate::interceptor::Connect;
use crate::limits::HANDSHAKE_TIME;
use crate::swap::TokenUrl;
use crate::{Error, Roots};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::http::{HeaderValue, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a token may take, from the lookup of its endpoint to the last byte.
const TOKEN_TIME: Duration = Duration::from_secs(20);
/// Most bytes of the answer that holds one.
const TOKEN_BYTES: usize = 1 << 20;

/// How servers are checked.
pub(crate) struct Trust(ClientConfig);

/// Why TLS with a server did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Untrusted {
    /// Its certificate does not hold.
    Certificate(String),
    /// Something else.
    Failed(String),
}

impl Trust {
    pub(crate) fn new(roots: Roots) -> Result<Trust, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let bad = |error: rustls::Error| Error::Roots { place: "this program".to_owned(), reason: error.to_string() };
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(bad)?;
        Ok(Trust(builder.with_root_certificates(roots.into_store()).with_no_client_auth()))
    }

    /// TLS over `stream` with the server `name`, which may speak one of `protocols`.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: &str,
        stream: S,
        protocols: Vec<Vec<u8>>,
    ) -> Result<TlsStream<S>, Untrusted> {
        let mut config = self.0.clone();
        config.alpn_protocols = protocols;
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            return Err(Untrusted::Failed("its name cannot be in a certificate".to_owned()));
        };
        match timeout(HANDSHAKE_TIME, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Untrusted::of(&error)),
            Err(_) => Err(Untrusted::Failed("it did not complete TLS in time".to_owned())),
        }
    }
}

impl Untrusted {
    fn of(error: &io::Error) -> Untrusted {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => Untrusted::Certificate(error.to_string()),
            Some(rustls::Error::NoCertificatesPresented) => Untrusted::Certificate("there is none".to_owned()),
            _ => Untrusted::Failed(format!("it did not complete TLS: {error}")),
        }
    }
}

/// Asks for tokens. Nothing of it goes through the guest's network, nor by what the guest says.
pub(crate) struct TokenClient {
    trust: Trust,
    connect: Arc<dyn Connect>,
}

impl TokenClient {
    pub(crate) fn new(trust: &Trust, connect: Arc<dyn Connect>) -> TokenClient {
        TokenClient { trust: Trust(trust.0.clone()), connect }
    }

    /// Sends `form` to `url`. Fails with why there was no answer, for people.
    pub(crate) async fn post(
        &self,
        url: &TokenUrl,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::post(&url.path)
            .header(HOST, &url.authority)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(form)))
            .map_err(|_| "the request for a token cannot be written".to_owned())?;
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let late = |_| "the token endpoint did not answer in time".to_owned();
        timeout(TOKEN_TIME, self.exchange(url, request)).await.map_err(late)?
    }

    async fn exchange(&self, url: &TokenUrl, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let stream = self.open(url).await.map_err(|error| format!("the token endpoint cannot be reached: {error}"))?;
        if !url.tls {
            return send(stream, request).await;
        }
        match self.trust.connect(&url.host, stream, vec![b"http/1.1".to_vec()]).await {
            Ok(stream) => send(stream, request).await,
            Err(Untrusted::Certificate(reason)) => {
                Err(format!("the certificate of the token endpoint does not hold: {reason}"))
            }
            Err(Untrusted::Failed(reason)) => Err(format!("the token endpoint cannot be used: {reason}")),
        }
    }

    async fn open(&self, url: &TokenUrl) -> io::Result<TcpStream> {
        let (connect, host, port) = (Arc::clone(&self.connect), url.host.clone(), url.port);
        let stream = spawn_blocking(move || connect.connect(&host, port)).await.map_err(io::Error::other)??;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("the token endpoint did not answer: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), TOKEN_BYTES).collect().await;
        let body = body.map_err(|error| format!("the answer of the token endpoint does not end: {error}"))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}
