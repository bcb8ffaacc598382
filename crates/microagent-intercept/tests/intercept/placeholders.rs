//! A placeholder on its way to where nothing takes its place is stopped.

use crate::bed::{BOTH, Bed, Got, pattern, text, within};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
use hyper::http::{HeaderMap, Request};
use microagent_egress::{Event, Reason};
use microagent_intercept::SwapConfig;
use std::time::Duration;

#[tokio::test]
async fn one_in_a_header_or_a_uri_is_stopped() {
    let requests = || {
        [
            Request::get("/").header("authorization", "Bearer microagent-swap-openai"),
            Request::get("/?key=microagent-swap-gemini"),
            Request::get("/?key=microagent%2dswap%2Dgemini"),
            Request::get("/microagent-swap-x"),
        ]
        .map(|request| request.body(text("")).unwrap())
    };
    let bed = Bed::speaking(&BOTH);
    for request in requests() {
        let answer = bed.http1().await.send(request).await.unwrap();
        Got::of(answer).await.unwrap().is_denial(403, "(placeholder)");
    }
    let mut client = bed.http2().await;
    for request in requests() {
        Got::of(client.send(request).await.unwrap()).await.unwrap().is_denial(403, "(placeholder)");
    }
    assert!(bed.server.seen().is_empty());
    assert!(bed.denied(Reason::Placeholder).contains("`authorization`"));
}

/// A body of `pieces`, each of which is a frame.
fn pieces(
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
) -> http_body_util::combinators::BoxBody<Bytes, std::io::Error> {
    struct Pieces(std::vec::IntoIter<Frame<Bytes>>);
    impl futures_core::Stream for Pieces {
        type Item = std::io::Result<Frame<Bytes>>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.next().map(Ok))
        }
    }
    let frames: Vec<Frame<Bytes>> = pieces.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers)).collect();
    BodyExt::boxed(StreamBody::new(Pieces(frames.into_iter())))
}

#[tokio::test]
async fn one_in_a_body_is_stopped_wherever_it_is_cut() {
    let bed = Bed::speaking(&BOTH);
    let long = pattern(0, 3 << 20);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-key", "microagent-swap-openai".parse().unwrap());
    let bodies = || {
        [
            pieces(vec!["key=microagent-swap-openai".into()], None),
            pieces(vec![long.clone(), "mi".into(), "croagent-sw".into(), "ap-openai".into(), long.clone()], None),
            pieces(vec!["x".into()], Some(trailers.clone())),
        ]
    };
    for body in bodies() {
        let answer =
            bed.http1().await.send(Request::post("/sum").header("trailer", "x-key").body(body).unwrap()).await.unwrap();
        Got::of(answer).await.unwrap().is_denial(403, "(placeholder)");
    }
    let mut client = bed.http2().await;
    for body in bodies() {
        let answer = client.send(Request::post("/sum").header("trailer", "x-key").body(body).unwrap()).await.unwrap();
        Got::of(answer).await.unwrap().is_denial(403, "(placeholder)");
    }
    // The rest of the connection goes on.
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
    assert_eq!(bed.denied(Reason::Placeholder), "it is in the body");
    let denied = bed.events().iter().filter(|event| event.reason == Some(Reason::Placeholder)).count();
    assert_eq!(denied, 6);
}

#[tokio::test]
async fn the_service_that_a_credential_is_for_may_be_told_of_its_placeholder() {
    let config = SwapConfig::provider("openai").unwrap();
    let bed = Bed::swapping("api.openai.com", &config, &[("OPENAI_API_KEY", "sk-key")]);
    let said = "OPENAI_API_KEY=microagent-swap-openai";
    let answer = bed.http1().await.send(Request::post("/").body(text(said)).unwrap()).await.unwrap();
    assert_eq!(Got::of(answer).await.unwrap().text(), "hello");
}

#[tokio::test]
async fn one_that_comes_after_the_answer_ends_the_upload_and_is_written_down() {
    let bed = Bed::speaking(&BOTH);
    for (index, is_h2) in [false, true].into_iter().enumerate() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        sender.send(Bytes::from_static(b"begin")).unwrap();
        let request = Request::post("/early").body(BodyExt::boxed(Later(receiver))).unwrap();
        let (mut http1, mut http2) = (bed.http1().await, bed.http2().await);
        let answer = if is_h2 { http2.send(request).await } else { http1.send(request).await };
        assert_eq!(answer.unwrap().status(), 413);
        sender.send(Bytes::from_static(b"microagent-swap-openai")).unwrap();
        within(sender.closed()).await;
        let placeholder = |event: &Event| event.reason == Some(Reason::Placeholder);
        let count = || bed.events().iter().filter(|event| placeholder(event)).count();
        within(async {
            while count() <= index {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// A body of what comes from a channel.
struct Later(tokio::sync::mpsc::UnboundedReceiver<Bytes>);

impl Body for Later {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn what_only_begins_like_one_goes_through() {
    let bed = Bed::speaking(&BOTH);
    let body = pieces(vec!["microagent-".into(), "swap".into(), "microagent-swa".into()], None);
    let answer = bed.http1().await.send(Request::post("/sum").body(body).unwrap()).await.unwrap();
    assert!(Got::of(answer).await.unwrap().text().starts_with("29 "));
}
