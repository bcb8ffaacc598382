//! A connection that was allowed for one host is of no use for another.

use crate::bed::{BOTH, Bed, Got, raw, text, within};
use hyper::http::{HeaderValue, Method, Request};
use microagent_egress::{Happened, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A bed, after `bytes` were sent in one connection of HTTP/1.1, with what came back.
async fn sent(bytes: &str) -> (Bed, String) {
    let bed = Bed::speaking(&BOTH);
    let answer = raw(&bed, bytes.as_bytes()).await;
    (bed, answer)
}

#[tokio::test]
async fn another_host_is_not_reached_by_its_name_in_a_request() {
    let (bed, answer) =
        sent("GET /1 HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /2 HTTP/1.1\r\nHost: api.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("(name-mismatch)"), "{answer}");
    // The connection is over: what came after is not answered.
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    assert!(bed.server.seen().is_empty());
    assert!(bed.denied(Reason::NameMismatch).contains("evil.example"));
}

#[tokio::test]
async fn the_second_request_of_a_connection_is_looked_at_like_the_first() {
    let (bed, answer) =
        sent("GET /1 HTTP/1.1\r\nHost: api.example\r\n\r\nGET /2 HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 421 "), "{answer}");
    assert_eq!(bed.server.seen().iter().map(|seen| seen.uri.as_str()).collect::<Vec<_>>(), ["/1"]);
}

#[tokio::test]
async fn a_malformed_request_behind_another_hides_nothing_of_it() {
    let (bed, answer) = sent("GET /1 HTTP/1.1\r\nHost: evil.example\r\n\r\nGET / HTTP/1.1\r\n x: y\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    bed.denied(Reason::NameMismatch);
    let broken = "POST /sum HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n";
    let (bed, answer) = sent(broken).await;
    // In the middle of a body there may be no way to answer.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(bed.denied(Reason::Malformed), "its chunks are none");
}

#[tokio::test]
async fn a_request_is_not_smuggled_in_the_body_of_another() {
    let inner = "GET /2 HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let length = inner.len();
    for framing in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("X: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length : {length}\r\n\r\n{inner}"),
    ] {
        let (bed, answer) = sent(&format!("POST /1 HTTP/1.1\r\nHost: api.example\r\n{framing}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("(malformed)"), "{framing}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: {answer}");
        assert!(bed.server.seen().is_empty(), "{framing}");
        bed.denied(Reason::Malformed);
    }
    // In a body that says so, it is a body.
    let (bed, answer) = sent(&format!(
        "POST /sum HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{inner}"
    ))
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("\r\n\r\n{length} ")), "{answer}");
    assert_eq!(bed.server.seen().len(), 1);
}

#[tokio::test]
async fn a_request_that_names_its_host_twice_or_never_is_malformed() {
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nHost: api.example\r\nHost: evil.example\r\n",
        "GET https://evil.example/ HTTP/1.1\r\nHost: api.example\r\n",
        "GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\n",
    ] {
        let (bed, answer) = sent(&format!("{head}Connection: close\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.") && answer.contains(" 400 ") && answer.contains("(malformed)"),
            "{head}: {answer}"
        );
        assert!(bed.server.seen().is_empty(), "{head}");
        bed.denied(Reason::Malformed);
    }
}

#[tokio::test]
async fn a_whole_uri_of_the_host_is_its_path() {
    let (bed, _) = sent("GET https://api.example/x?y HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(bed.server.seen()[0].uri, "/x?y");
}

#[tokio::test]
async fn a_request_for_the_server_as_a_whole_is_one() {
    let (bed, answer) = sent("OPTIONS * HTTP/1.1\r\nHost: api.example\r\nConnection: close, Host\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = &bed.server.seen()[0];
    assert_eq!((seen.uri.as_str(), &seen.headers["host"]), ("*", &HeaderValue::from_static("api.example")));
}

#[tokio::test]
async fn what_is_not_http_at_all_is_told_so() {
    let (bed, answer) = sent("EHLO me\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    bed.denied(Reason::Malformed);
}

#[tokio::test]
async fn there_is_no_tunnel_through_a_host() {
    for target in ["evil.example:443", "api.example:443"] {
        let (bed, answer) = sent(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("(tunnel)"), "{answer}");
        assert!(bed.server.seen().is_empty());
        bed.denied(Reason::Tunnel);
    }
    let bed = Bed::speaking(&BOTH);
    let request = Request::builder().method(Method::CONNECT).uri("api.example:443").body(text("")).unwrap();
    let answer = bed.http2().await.send(request).await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(bed.server.seen().is_empty());
}

#[tokio::test]
async fn addresses_are_not_asked_for_past_the_resolver() {
    let bed = Bed::speaking(&BOTH);
    bed.http2().await.get("/dns-query?dns=AAAB").await.unwrap().is_denial(403, "(dns-over-https)");
    bed.http1().await.get("/dns-query?dns=AAAB").await.unwrap().is_denial(403, "(dns-over-https)");
    let request = Request::post("/").header("content-type", "application/dns-message").body(text("x")).unwrap();
    Got::of(bed.http1().await.send(request).await.unwrap()).await.unwrap().is_denial(403, "(dns-over-https)");
    assert!(bed.server.seen().is_empty());
    bed.denied(Reason::DnsOverHttps);
}

#[tokio::test]
async fn a_connection_of_http2_is_not_shared_with_another_host() {
    let bed = Bed::speaking(&BOTH);
    let mut client = bed.http2().await;
    let to = |uri: &str| Request::get(uri).body(text("")).unwrap();
    let answer = client.send(to("https://evil.example/1")).await.unwrap();
    Got::of(answer).await.unwrap().is_denial(421, "(name-mismatch)");
    let mut both = to("https://api.example/2");
    both.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(client.send(both).await.unwrap().status(), 421);
    // It is over for those requests alone.
    assert_eq!(client.get("/3").await.unwrap().text(), "hello");
    assert_eq!(bed.server.seen().len(), 1);
    bed.denied(Reason::NameMismatch);
}

#[tokio::test]
async fn a_hello_to_another_host_is_refused_with_an_alert() {
    let bed = Bed::speaking(&BOTH);
    for (name, reason) in [("evil.example", Reason::NameMismatch), ("127.0.0.1", Reason::NoServerName)] {
        let error = bed.tls_as(name, &BOTH).await.unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
        bed.denied(reason);
    }
    let error = bed.tls_as("api.example", &["smtp"]).await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    bed.denied(Reason::NotInspectable);
    assert!(bed.server.seen().is_empty());
}

#[tokio::test]
async fn upgrades_other_than_to_websocket_are_not_passed_on() {
    let (bed, answer) = sent(
        "GET / HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = &bed.server.seen()[0].headers;
    assert!(["connection", "upgrade", "http2-settings"].iter().all(|name| !seen.contains_key(*name)), "{seen:?}");
}

#[tokio::test]
async fn heads_have_their_bounds() {
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nHost: api.example\r\nx: {}\r\n\r\n", "y".repeat(70 << 10)), 431),
        (format!("GET / HTTP/1.1\r\nHost: api.example\r\n{}\r\n", "x: y\r\n".repeat(300)), 431),
    ] {
        let (bed, answer) = sent(&head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(bed.server.seen().is_empty());
        bed.denied(Reason::Malformed);
    }
}

#[tokio::test]
async fn without_tls_the_host_is_checked_all_the_same() {
    let bed = Bed::plain(microagent_intercept::Swaps::none());
    let sent = async |bytes: &[u8]| {
        let mut stream = tokio::net::UnixStream::from_std(bed.open()).unwrap();
        within(stream.write_all(bytes)).await.unwrap();
        let mut all = Vec::new();
        let _ = within(stream.read_to_end(&mut all)).await;
        String::from_utf8_lossy(&all).into_owned()
    };
    let answer = sent(b"GET / HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = sent(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert_eq!(bed.server.seen().len(), 1);
    assert!(bed.events().iter().any(|event| event.event == Happened::Deny));
}
