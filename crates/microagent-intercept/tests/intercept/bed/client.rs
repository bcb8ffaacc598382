//! Guests.

use super::{Bed, within};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::http::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// A body of `text`.
pub(crate) fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

impl Bed {
    /// TLS with the server that the guest calls `name`, offering `protocols`.
    pub(crate) async fn tls_as(&self, name: &str, protocols: &[&str]) -> io::Result<TlsStream<UnixStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.guest_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = UnixStream::from_std(self.open())?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    pub(crate) async fn tls(&self, protocols: &[&str]) -> TlsStream<UnixStream> {
        self.tls_as(&self.name, protocols).await.unwrap()
    }

    /// A client of HTTP/1.1.
    pub(crate) async fn http1(&self) -> Http1 {
        let io = TokioIo::new(self.tls(&["http/1.1"]).await);
        let (sender, driver) = http1::handshake(io).await.unwrap();
        tokio::spawn(driver.with_upgrades());
        Http1(sender, self.name.clone())
    }

    /// A client of HTTP/2.
    pub(crate) async fn http2(&self) -> Http2 {
        let io = TokioIo::new(self.tls(&["h2"]).await);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let (sender, driver) = builder.handshake(io).await.unwrap();
        tokio::spawn(driver);
        Http2(sender, self.name.clone())
    }
}

/// An answer, to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Got {
    pub(crate) async fn of(answer: Response<Incoming>) -> hyper::Result<Got> {
        let (parts, body) = answer.into_parts();
        let body = within(body.collect()).await?;
        let trailers = body.trailers().cloned();
        Ok(Got { status: parts.status, headers: parts.headers, body: body.to_bytes(), trailers })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Checks that it is a denial that a person can read.
    pub(crate) fn is_denial(&self, status: u16, name: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.text().starts_with("microagent: ") && self.text().ends_with('\n'), "{self:?}");
        assert!(self.text().contains(name), "{self:?}");
        assert_eq!(self.headers["content-type"], "text/plain; charset=utf-8");
    }
}

pub(crate) struct Http1(http1::SendRequest<Body>, String);

impl Http1 {
    /// Sends `request`, whose `Host` is set where there is none.
    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", self.1.parse().unwrap());
        }
        within(self.0.ready()).await?;
        within(self.0.send_request(request)).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<Got> {
        Got::of(self.send(Request::get(path).body(text("")).unwrap()).await?).await
    }
}

#[derive(Clone)]
pub(crate) struct Http2(http2::SendRequest<Body>, String);

impl Http2 {
    /// Sends `request`, which is for the server itself where it has only a path.
    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        if request.uri().authority().is_none() {
            *request.uri_mut() = format!("https://{}{}", self.1, request.uri()).parse().unwrap();
        }
        within(self.0.ready()).await?;
        within(self.0.send_request(request)).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<Got> {
        Got::of(self.send(Request::get(path).body(text("")).unwrap()).await?).await
    }
}

/// Sends `bytes` as they are, and gives all that comes back until the other end has no more.
pub(crate) async fn raw(bed: &Bed, bytes: &[u8]) -> String {
    let mut stream = bed.tls(&["http/1.1"]).await;
    within(stream.write_all(bytes)).await.unwrap();
    let mut all = Vec::new();
    // Where it ends in the middle, what came is what counts.
    let _ = within(stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}
