//! A server that does what it is asked to by the path, and remembers what it was asked.

use super::pattern;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ring::digest::{Context, SHA256};
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// What a server says to the how-manieth request, with these fields and this body: a status and a text.
pub(crate) type Script = Arc<dyn Fn(usize, &HeaderMap, &str) -> (u16, String) + Send + Sync>;

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A head that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// With TLS where there is a configuration for it.
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> Server {
        Server::run(tls, None)
    }

    /// One that says what `script` says.
    pub(crate) fn scripted(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(usize, &HeaderMap, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Server {
        Server::run(tls, Some(Arc::new(script)))
    }

    fn run(tls: Option<Arc<ServerConfig>>, script: Option<Script>) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (stop, stopped) = oneshot::channel();
        let to_see = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).unwrap(), tls, to_see, script) => {}
                    _ = stopped => {}
                }
            });
        });
        Server { address, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// What arrived.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Option<Script>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let (tls, seen, script) = (tls.clone(), Arc::clone(&seen), script.clone());
        tokio::spawn(async move {
            match tls {
                None => {
                    let mut begin = [0; 3];
                    let _ = stream.peek(&mut begin).await;
                    speak(stream, begin == *b"PRI", seen, script).await;
                }
                Some(config) => {
                    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    speak(stream, is_h2, seen, script).await;
                }
            }
        });
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    is_h2: bool,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Option<Script>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut seen = seen.lock().unwrap();
        seen.push(Seen {
            version: request.version(),
            uri: request.uri().to_string(),
            headers: request.headers().clone(),
        });
        let (count, script) = (seen.len(), script.clone());
        async move {
            let Some(script) = script else { return answer(request).await };
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let (status, text) = script(count, &parts.headers, std::str::from_utf8(&body).unwrap());
            let mut answer = Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync());
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok(answer)
        }
    });
    // How it ends is for the tests to see at the other side.
    if is_h2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    }
}

async fn answer(request: Request<Incoming>) -> Result<Answer, io::Error> {
    let path = request.uri().path().to_owned();
    let (verb, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    match verb {
        "bytes" => Ok(stream(chunks(rest.parse().unwrap(), true))),
        // As many, and then the connection breaks.
        "break" => Ok(stream(chunks(rest.parse().unwrap(), false))),
        "die" => Err(io::Error::other("as it was asked")),
        "sum" => sum(request).await,
        "early" => {
            // The body is read, as servers do for a while: otherwise its rest would reset the connection.
            tokio::spawn(request.into_body().collect());
            let mut answer = plain("enough");
            *answer.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            Ok(answer)
        }
        "trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("42"));
            let frames = vec![Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
            let mut answer = stream(frames.into_iter());
            answer.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
            Ok(answer)
        }
        "redirect" => {
            let mut answer = plain("");
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert("location", HeaderValue::from_static("https://elsewhere.example/x"));
            Ok(answer)
        }
        "repeat" => {
            let mut answer = plain("repeated");
            for name in ["authorization", "x-api-key"] {
                if let Some(value) = request.headers().get(name) {
                    answer.headers_mut().insert("x-repeated", value.clone());
                }
            }
            Ok(answer)
        }
        "status" => {
            let mut answer = plain("as asked");
            *answer.status_mut() = rest.parse().unwrap();
            Ok(answer)
        }
        "close" => {
            let mut answer = plain("the last");
            answer.headers_mut().insert("connection", HeaderValue::from_static("close"));
            Ok(answer)
        }
        "websocket" => Ok(websocket(request)),
        _ => Ok(plain("hello")),
    }
}

fn plain(text: &'static str) -> Answer {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync())
}

fn stream(frames: impl Iterator<Item = io::Result<Frame<Bytes>>> + Send + Unpin + 'static) -> Answer {
    Response::new(BodyExt::boxed_unsync(StreamBody::new(Frames(frames))))
}

struct Frames<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Frames<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

/// So many bytes of [`pattern`], and an error after them where they are not to be whole.
fn chunks(count: usize, is_whole: bool) -> impl Iterator<Item = io::Result<Frame<Bytes>>> + Unpin {
    const CHUNK: usize = 64 << 10;
    let frames = (0..count).step_by(CHUNK).map(move |at| Ok(Frame::data(pattern(at, CHUNK.min(count - at)))));
    frames.chain((!is_whole).then(|| Err(io::Error::other("as it was asked"))))
}

/// Tells the length and the digest of the body, and the trailers.
async fn sum(request: Request<Incoming>) -> Result<Answer, io::Error> {
    let mut body = request.into_body();
    let (mut digest, mut length, mut trailers) = (Context::new(&SHA256), 0, String::new());
    while let Some(frame) = body.frame().await {
        match frame.map_err(io::Error::other)?.into_data() {
            Ok(data) => {
                length += data.len();
                digest.update(&data);
            }
            Err(frame) => trailers = format!(" {:?}", frame.into_trailers().unwrap()),
        }
    }
    let text = format!("{length} {:?}{trailers}", digest.finish());
    Ok(Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()))
}

/// Becomes an echo of bytes.
fn websocket(mut request: Request<Incoming>) -> Answer {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let mut io = TokioIo::new(upgraded);
            let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
            let echo = async {
                let (mut from, mut to) = tokio::io::split(&mut theirs);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
            };
            let _ = tokio::join!(copy_bidirectional(&mut io, &mut ours), echo);
        }
    });
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    answer
}
