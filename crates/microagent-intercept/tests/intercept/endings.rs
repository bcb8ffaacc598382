//! Whoever goes away in the middle is noticed at the other side, and takes nothing else along.

use crate::bed::{BOTH, Bed, DEADLINE, Got, pattern, raw, text, within};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::http::Request;
use microagent_egress::Happened;
use microagent_intercept::{Connection, Interceptor};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_server_that_dies_in_the_middle_of_a_body_leaves_it_unfinished() {
    let bed = Bed::speaking(&BOTH);
    let answer = bed.http1().await.send(Request::get("/break/8000000").body(text("")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(Got::of(answer).await.is_err());
    let mut client = bed.http2().await;
    let answer = client.send(Request::get("/break/8000000").body(text("")).unwrap()).await.unwrap();
    assert!(Got::of(answer).await.is_err());
    // Another request in the same connection has nothing to do with it.
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
}

#[tokio::test]
async fn a_server_that_dies_before_it_answers_is_told_of() {
    let bed = Bed::speaking(&BOTH);
    bed.http1().await.get("/die").await.unwrap().is_denial(502, "did not answer");
    bed.event(|event| event.event == Happened::Error);
    // A reset of HTTP/2 is passed on as one.
    let error = bed.http2().await.get("/die").await.unwrap_err();
    assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}");
}

/// A body that begins and does not end.
struct Endless(Option<Bytes>);

impl Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.take().map_or(Poll::Pending, |begin| Poll::Ready(Some(Ok(Frame::data(begin)))))
    }
}

#[tokio::test]
async fn a_server_that_has_enough_is_heard_before_the_upload_is_over() {
    let bed = Bed::speaking(&BOTH);
    let request = || Request::post("/early").body(BodyExt::boxed(Endless(Some(pattern(0, 1 << 20))))).unwrap();
    let answer = bed.http2().await.send(request()).await.unwrap();
    assert_eq!(answer.status(), 413);
    let answer = bed.http1().await.send(request()).await.unwrap();
    assert_eq!(answer.status(), 413);
}

#[tokio::test]
async fn a_denial_is_read_before_the_upload_is_over() {
    let bed = Bed::speaking(&BOTH);
    let request = || {
        let body = BodyExt::boxed(Endless(Some(pattern(0, 1 << 20))));
        Request::post("https://api.example/").header("host", "evil.example").body(body).unwrap()
    };
    let answer = bed.http2().await.send(request()).await.unwrap();
    Got::of(answer).await.unwrap().is_denial(421, "(name-mismatch)");
    let answer = bed.http1().await.send(request()).await.unwrap();
    // In HTTP/1, a whole URI and a `Host` that disagree are malformed together.
    Got::of(answer).await.unwrap().is_denial(421, "(name-mismatch)");
}

#[tokio::test]
async fn a_guest_that_is_refused_may_finish_what_it_was_saying() {
    let bed = Bed::speaking(&BOTH);
    let mut stream = bed.tls(&["http/1.1"]).await;
    let head = "POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1048576\r\n\r\n";
    within(stream.write_all(head.as_bytes())).await.unwrap();
    // More than the sockets hold, and after the answer: a socket that was closed over it would refuse it.
    let mut begin = [0; 12];
    within(stream.read_exact(&mut begin)).await.unwrap();
    assert_eq!(std::str::from_utf8(&begin).unwrap(), "HTTP/1.1 421");
    within(stream.write_all(&pattern(0, 1 << 20))).await.unwrap();
    within(stream.flush()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_closes_closes_the_guests_connection() {
    let bed = Bed::speaking(&BOTH);
    let answer =
        raw(&bed, b"GET /close HTTP/1.1\r\nHost: api.example\r\n\r\nGET / HTTP/1.1\r\nHost: api.example\r\n\r\n").await;
    assert!(answer.contains("connection: close") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
}

#[tokio::test]
async fn a_connection_that_the_server_ends_while_it_idles_ends_for_the_guest() {
    let mut bed = Bed::speaking(&BOTH);
    let mut client = bed.http1().await;
    client.get("/").await.unwrap();
    let address = bed.server.address;
    // The server is gone, and its sockets with it.
    bed.server = crate::bed::Server::start(None);
    assert_ne!(bed.server.address, address);
    within(async { while client.get("/").await.is_ok_and(|got| got.status == 200) {} }).await;
    assert!(client.get("/").await.is_err(), "the connection goes on");
}

/// A server that takes connections, and tells when one of them is over.
fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn take(interceptor: &Interceptor, address: std::net::SocketAddr, tls: bool) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let upstream = TcpStream::connect(address).unwrap();
    interceptor.take(Connection { name: "api.example".to_owned(), address, tls }, theirs, upstream.into());
    ours
}

/// Waits until the other end of `stream` has closed it.
fn ends(mut stream: impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut all);
    all
}

#[tokio::test]
async fn a_guest_that_dies_takes_its_connection_to_the_server_along() {
    let bed = Bed::plain(microagent_intercept::Swaps::none());
    let (listener, address) = listener();
    for sent in [
        // Before it has said anything, in a head, waiting for the answer, and in a body.
        "",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: api.example\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 1000\r\n\r\nhello",
    ] {
        let mut guest = take(&bed.interceptor, address, false);
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        std::io::Write::write_all(&mut guest, sent.as_bytes()).unwrap();
        if sent.contains("\r\n\r\n") {
            let mut first = [0; 1];
            std::io::Read::read_exact(&mut &server, &mut first).unwrap();
        }
        drop(guest);
        let got = tokio::task::spawn_blocking(move || ends(&server)).await.unwrap();
        assert!(!sent.is_empty() || got.is_empty());
    }
}

#[tokio::test]
async fn a_guest_that_dies_in_the_middle_of_a_download_ends_it() {
    let bed = Bed::speaking(&BOTH);
    for is_h2 in [false, true] {
        let request = Request::get("/bytes/1000000000").body(text("")).unwrap();
        let mut answer = if is_h2 {
            bed.http2().await.send(request).await.unwrap()
        } else {
            bed.http1().await.send(request).await.unwrap()
        };
        within(answer.body_mut().frame()).await.unwrap().unwrap();
        drop(answer);
    }
    // What is left of them holds nothing up.
    assert_eq!(bed.http1().await.get("/").await.unwrap().text(), "hello");
    within(async {
        while !format!("{:?}", bed.interceptor).contains("open: 1")
            && !format!("{:?}", bed.interceptor).contains("open: 0")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn dropping_the_interceptor_ends_its_connections() {
    let bed = Bed::speaking(&BOTH);
    let mut idle = bed.http1().await;
    idle.get("/").await.unwrap();
    let mut busy = bed.http1().await.send(Request::get("/bytes/1000000000").body(text("")).unwrap()).await.unwrap();
    let fresh = bed.open();
    drop(Arc::into_inner(bed.interceptor).unwrap());
    assert!(within(idle.get("/")).await.is_err());
    within(async { while let Some(Ok(_)) = busy.body_mut().frame().await {} }).await;
    fresh.set_nonblocking(false).unwrap();
    assert!(ends(fresh).is_empty());
}

/// A guest and a server that both speak in bytes, without TLS.
fn pair(bed: &Bed, listener: &TcpListener) -> (tokio::net::UnixStream, tokio::net::TcpStream) {
    let guest = take(&bed.interceptor, listener.local_addr().unwrap(), false);
    let (server, _) = listener.accept().unwrap();
    guest.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    (tokio::net::UnixStream::from_std(guest).unwrap(), tokio::net::TcpStream::from_std(server).unwrap())
}

/// Reads from `stream` until `end` has come.
async fn until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        all.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(all).unwrap()
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n";

#[tokio::test]
async fn a_request_that_meets_a_server_which_is_closing_ends_as_it_would_without_us() {
    let bed = Bed::plain(microagent_intercept::Swaps::none());
    let (listener, _) = listener();
    let (mut guest, mut server) = pair(&bed, &listener);
    guest.write_all(REQUEST).await.unwrap();
    until(&mut server, "\r\n\r\n").await;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    until(&mut guest, "\r\n\r\nhi").await;
    guest.write_all(REQUEST).await.unwrap();
    until(&mut server, "\r\n\r\n").await;
    drop(server);
    // No answer in the place of the server's: a client knows to try again.
    let mut rest = String::new();
    within(guest.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "");
    // The first request of a connection is told why.
    let (mut guest, mut server) = pair(&bed, &listener);
    guest.write_all(REQUEST).await.unwrap();
    until(&mut server, "\r\n\r\n").await;
    drop(server);
    within(guest.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 502 "), "{rest}");
}

#[tokio::test]
async fn a_guest_that_says_it_asks_nothing_more_gets_its_answer() {
    let bed = Bed::plain(microagent_intercept::Swaps::none());
    let (listener, _) = listener();
    let (mut guest, mut server) = pair(&bed, &listener);
    guest.write_all(REQUEST).await.unwrap();
    guest.shutdown().await.unwrap();
    until(&mut server, "\r\n\r\n").await;
    // The end has long been seen when the answer begins, and when it goes on.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi").await.unwrap();
    until(&mut guest, "\r\n\r\nhi").await;
    server.write_all(b"gh").await.unwrap();
    let mut rest = String::new();
    within(guest.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "gh");
    // By TLS, with its own way to say so (RFC 8446, 6.1).
    let bed = Bed::speaking(&BOTH);
    let mut guest = bed.tls(&["http/1.1"]).await;
    within(guest.write_all(b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n")).await.unwrap();
    within(guest.shutdown()).await.unwrap();
    let mut answer = String::new();
    within(guest.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn several_requests_at_once_and_an_end_are_all_answered() {
    const REQUESTS: usize = 10;
    let bed = Bed::speaking(&BOTH);
    let mut guest = bed.tls(&["http/1.1"]).await;
    let all = "GET / HTTP/1.1\r\nHost: api.example\r\n\r\n".repeat(REQUESTS);
    within(guest.write_all(all.as_bytes())).await.unwrap();
    within(guest.shutdown()).await.unwrap();
    let mut answers = String::new();
    within(guest.read_to_string(&mut answers)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), REQUESTS, "{answers}");
}

#[tokio::test]
async fn the_guest_is_told_of_a_close_before_it_comes() {
    let bed = Bed::plain(microagent_intercept::Swaps::none());
    let (listener, _) = listener();
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nbegin",
        "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nbegin",
    ] {
        let (mut guest, mut server) = pair(&bed, &listener);
        guest.write_all(REQUEST).await.unwrap();
        until(&mut server, "\r\n\r\n").await;
        server.write_all(answer.as_bytes()).await.unwrap();
        let head = until(&mut guest, "begin").await;
        assert!(head.contains("connection: close") || head.contains("Connection: close"), "{head}");
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_holds_the_server_back() {
    let bed = Bed::plain(microagent_intercept::Swaps::none());
    let (listener, _) = listener();
    let (mut guest, mut server) = pair(&bed, &listener);
    guest.write_all(REQUEST).await.unwrap();
    within(server.read_exact(&mut [0; 16])).await.unwrap();
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    // Nobody reads. What the sockets and the interceptor hold is some megabytes, and then writing stops.
    let mut written = 0;
    let block = vec![0; 1 << 16];
    while let Ok(count) = tokio::time::timeout(std::time::Duration::from_secs(1), server.write(&block)).await {
        written += count.unwrap();
        assert!(written < 100 << 20, "it is taken in without end");
    }
}
