//! What is allowed goes through as it is.

use crate::bed::{BOTH, Bed, Ca, Got, Kind, Server, pattern, raw, text, within};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper::http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use microagent_egress::Happened;
use microagent_intercept::{SwapConfig, Swaps};
use microagent_secret::Sources;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn http1_and_http2_go_through_as_the_server_speaks_them() {
    let bed = Bed::speaking(&BOTH);
    assert_eq!(bed.http1().await.get("/a?b=c").await.unwrap().text(), "hello");
    assert_eq!(bed.http2().await.get("/a?b=c").await.unwrap().text(), "hello");
    let seen = bed.server.seen();
    assert_eq!((seen[0].version, seen[0].uri.as_str()), (Version::HTTP_11, "/a?b=c"));
    assert_eq!((seen[1].version, seen[1].uri.as_str()), (Version::HTTP_2, "https://api.example/a?b=c"));
    assert_eq!(seen[0].headers["host"], "api.example");
    assert!(bed.events().iter().all(|event| event.event != Happened::Deny), "{:?}", bed.events());
}

#[tokio::test]
async fn the_guest_is_told_the_protocol_that_the_server_chose() {
    for (speaks, offers, told) in [
        (&["http/1.1"][..], &BOTH[..], Some("http/1.1")),
        (&["h2"], &BOTH, Some("h2")),
        (&BOTH, &["http/1.1"], Some("http/1.1")),
        (&BOTH, &[], None),
        (&[], &BOTH, None),
        (&BOTH, &["spdy/3", "h2"], Some("h2")),
    ] {
        let bed = Bed::speaking(speaks);
        let stream = bed.tls(offers).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), told.map(str::as_bytes), "{speaks:?} {offers:?}");
    }
}

#[tokio::test]
async fn a_large_download_arrives_whole() {
    let bed = Bed::speaking(&BOTH);
    let (count, path) = (64 << 20, format!("/bytes/{}", 64 << 20));
    assert!(bed.http1().await.get(&path).await.unwrap().body == pattern(0, count));
    assert!(bed.http2().await.get(&path).await.unwrap().body == pattern(0, count));
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let bed = Bed::speaking(&BOTH);
    let body = pattern(0, 64 << 20);
    let sum = format!("{} {:?}", body.len(), ring::digest::digest(&ring::digest::SHA256, &body));
    let request = || Request::post("/sum").body(text(body.clone())).unwrap();
    let answer = bed.http1().await.send(request()).await.unwrap();
    assert_eq!(Got::of(answer).await.unwrap().text(), sum);
    let answer = bed.http2().await.send(request()).await.unwrap();
    assert_eq!(Got::of(answer).await.unwrap().text(), sum);
}

#[tokio::test]
async fn websocket_goes_through_both_ways() {
    let bed = Bed::speaking(&BOTH);
    let mut client = bed.http1().await;
    let request = Request::get("/websocket")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .body(text(""))
        .unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut stream = TokioIo::new(within(hyper::upgrade::on(answer)).await.unwrap());
    // More than any buffer on the way, with bytes that are no HTTP.
    let all = pattern(0, 8 << 20);
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut back = vec![0; all.len()];
    let sent = async {
        writer.write_all(&all).await.unwrap();
        writer.flush().await.unwrap();
    };
    within(async { tokio::join!(sent, async { reader.read_exact(&mut back).await.unwrap() }) }).await;
    assert!(back == all);
    // The end of one direction is the end of the other.
    within(stream.shutdown()).await.unwrap();
    assert_eq!(within(stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_server_that_wants_no_websocket_is_heard() {
    let bed = Bed::speaking(&BOTH);
    let mut client = bed.http1().await;
    let request =
        Request::get("/").header("connection", "upgrade").header("upgrade", "websocket").body(text("")).unwrap();
    assert_eq!(Got::of(client.send(request).await.unwrap()).await.unwrap().text(), "hello");
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let bed = Bed::speaking(&BOTH);
    let mut client = bed.http1().await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.unwrap().text(), "hello");
    }
    let client = bed.http2().await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut client = client.clone();
        all.spawn(async move { client.get("/bytes/100000").await.unwrap().body });
    }
    let all = within(all.join_all()).await;
    assert!(all.len() == 200 && all.iter().all(|body| *body == pattern(0, 100_000)));
}

#[tokio::test]
async fn a_body_is_asked_for_before_it_is_sent() {
    let bed = Bed::speaking(&BOTH);
    let mut stream = bed.tls(&["http/1.1"]).await;
    let head = "POST /sum HTTP/1.1\r\nHost: api.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    within(stream.write_all(head.as_bytes())).await.unwrap();
    let mut asked = [0; 25];
    within(stream.read_exact(&mut asked)).await.unwrap();
    assert_eq!(std::str::from_utf8(&asked).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    within(stream.write_all(b"hello")).await.unwrap();
    let mut answer = vec![0; 12];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 200");
}

#[tokio::test]
async fn trailers_go_through_both_ways() {
    let bed = Bed::speaking(&BOTH);
    let request = || Request::get("/trailers").header("te", "trailers").body(text("")).unwrap();
    let answer = Got::of(bed.http1().await.send(request()).await.unwrap()).await.unwrap();
    assert_eq!((answer.text(), &answer.trailers.as_ref().unwrap()["x-sum"]), ("body", &HeaderValue::from_static("42")));
    let answer = Got::of(bed.http2().await.send(request()).await.unwrap()).await.unwrap();
    assert_eq!((answer.text(), &answer.trailers.as_ref().unwrap()["x-sum"]), ("body", &HeaderValue::from_static("42")));
    // In HTTP/2, `TE` says what it said; it is for the server.
    assert_eq!(bed.server.seen()[1].headers["te"], "trailers");
    let chunked = "POST /sum HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: x-mine\r\n\r\n2\r\nhi\r\n0\r\nx-mine: 7\r\n\r\n";
    let answer = raw(&bed, chunked.as_bytes()).await;
    assert!(answer.contains("\r\n\r\n2 ") && answer.contains(r#"{"x-mine": "7"}"#), "{answer}");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-mine", HeaderValue::from_static("7"));
    let body = text("hi").with_trailers(async { Some(Ok(trailers)) }).boxed();
    let answer = bed.http2().await.send(Request::post("/sum").body(body).unwrap()).await.unwrap();
    assert!(Got::of(answer).await.unwrap().text().contains(r#"{"x-mine": "7"}"#));
}

#[tokio::test]
async fn a_redirect_is_for_the_guest_to_follow() {
    let ca = Ca::new();
    let server = |name: &str| Server::start(Some(ca.server(name, Kind::Valid, &BOTH)));
    let config = SwapConfig::provider("openai").unwrap();
    let swaps = config.resolve(&Sources::of_variables([("OPENAI_API_KEY", "sk-s3cret")])).unwrap();
    let bed = Bed::between("api.openai.com", server("api.openai.com"), true, &ca, swaps);
    let elsewhere = bed.beside("elsewhere.example", server("elsewhere.example"));
    for answer in [bed.http1().await.get("/redirect").await.unwrap(), bed.http2().await.get("/redirect").await.unwrap()]
    {
        assert_eq!(
            (answer.status, &answer.headers["location"]),
            (StatusCode::FOUND, &HeaderValue::from_static("https://elsewhere.example/x"))
        );
    }
    // Nobody followed it, and the credential went where it belongs alone.
    let asked = bed.server.seen();
    assert!(asked.len() == 2 && asked.iter().all(|seen| seen.headers["authorization"] == "Bearer sk-s3cret"));
    assert!(elsewhere.server.seen().is_empty());
    // A guest that follows it has no credential there, and cannot take its placeholder along.
    assert_eq!(elsewhere.http1().await.get("/x").await.unwrap().text(), "hello");
    let with_placeholder = Request::get("/x").header("authorization", "Bearer microagent-swap-openai");
    let answer = elsewhere.http2().await.send(with_placeholder.body(text("")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let asked = elsewhere.server.seen();
    assert!(asked.len() == 1 && !asked[0].headers.contains_key("authorization"), "{asked:?}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let bed = Bed::speaking(&BOTH);
    let mut client = bed.http1().await;
    let answer = client.send(Request::head("/").body(text("")).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "5");
    assert!(Got::of(answer).await.unwrap().body.is_empty());
    for status in ["204", "304"] {
        assert_eq!(client.get(&format!("/status/{status}")).await.unwrap().status.as_str(), status);
    }
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
}

#[tokio::test]
async fn http_1_0_is_answered_as_such() {
    let bed = Bed::speaking(&BOTH);
    let answer = raw(&bed, b"GET /bytes/100 HTTP/1.0\r\nHost: api.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 ") && !answer.contains("chunked"), "{answer}");
    assert_eq!(bed.server.seen()[0].version, Version::HTTP_11);
}

#[tokio::test]
async fn without_tls_http2_is_known_by_how_it_begins() {
    let bed = Bed::plain(Swaps::none());
    let stream = TokioIo::new(tokio::net::UnixStream::from_std(bed.open()).unwrap());
    let (mut sender, driver) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(driver);
    let request = Request::get("http://api.example/").body(text("")).unwrap();
    let answer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(Got::of(answer).await.unwrap().text(), "hello");
    assert_eq!(bed.server.seen()[0].version, Version::HTTP_2);
}
