//! Credentials take the place of placeholders for their hosts, and appear nowhere else.

use crate::bed::{BOTH, Bed, Ca, Got, Kind, Server, open, text};
use hyper::http::Request;
use microagent_egress::{Event, Happened};
use microagent_intercept::{SwapConfig, Swaps};
use microagent_secret::Sources;
use std::path::Path;

const KEY: &str = "sk-s3cret-0123456789";

/// Swaps of a file with `text`, whose references are `variables`.
pub(crate) fn load(text: &str) -> SwapConfig {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    SwapConfig::load(Path::new(file.path())).unwrap()
}

fn swaps(event: &Event) -> bool {
    event.event == Happened::Swap
}

#[tokio::test]
async fn each_provider_has_its_key_in_its_header() {
    for (provider, host, header, value) in [
        ("openai", "api.openai.com", "authorization", "Bearer KEY"),
        ("anthropic", "api.anthropic.com", "x-api-key", "KEY"),
        ("gemini", "generativelanguage.googleapis.com", "x-goog-api-key", "KEY"),
        ("groq", "api.groq.com", "authorization", "Bearer KEY"),
        ("openrouter", "openrouter.ai", "authorization", "Bearer KEY"),
        ("deepseek", "api.deepseek.com", "authorization", "Bearer KEY"),
    ] {
        let config = SwapConfig::provider(&format!("{provider}=env:MINE")).unwrap();
        let bed = Bed::swapping(host, &config, &[("MINE", KEY)]);
        let placeholder = Swaps::placeholder(provider);
        assert_eq!(config.environment()[0].1, placeholder);
        let guests = value.replace("KEY", &placeholder);
        let request = || Request::post("/v1").header(header, &guests).header("x-other", "1").body(text("{}")).unwrap();
        let answer = bed.http1().await.send(request()).await.unwrap();
        assert_eq!(Got::of(answer).await.unwrap().text(), "hello");
        let mut client = bed.http2().await;
        client.send(request()).await.unwrap();
        client.send(request()).await.unwrap();
        let seen = bed.server.seen();
        assert_eq!(seen.len(), 3);
        for seen in seen {
            let values: Vec<_> = seen.headers.get_all(header).iter().collect();
            assert_eq!(values, [value.replace("KEY", KEY).as_str()], "{provider}");
            assert_eq!(seen.headers["x-other"], "1");
        }
        // Once for each connection.
        let events: Vec<Event> = bed.events().into_iter().filter(swaps).collect();
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|event| event.credential.as_deref() == Some(provider)));
        assert!(!bed.record().contains("s3cret"));
    }
}

#[tokio::test]
async fn whatever_the_guest_sends_in_that_header_is_replaced() {
    let bed = Bed::swapping("api.openai.com", &SwapConfig::provider("openai").unwrap(), &[("OPENAI_API_KEY", KEY)]);
    let mut client = bed.http1().await;
    let request = Request::get("/").header("authorization", "Bearer mine").header("authorization", "Basic eA==");
    client.send(request.body(text("")).unwrap()).await.unwrap();
    drop(client);
    bed.http1().await.get("/").await.unwrap();
    for seen in bed.server.seen() {
        let values: Vec<_> = seen.headers.get_all("authorization").iter().collect();
        assert_eq!(values, [format!("Bearer {KEY}").as_str()]);
    }
}

#[tokio::test]
async fn it_is_the_connection_that_a_credential_belongs_to() {
    let config = SwapConfig::provider("openai").unwrap();
    let bed = Bed::swapping("other.example", &config, &[("OPENAI_API_KEY", KEY)]);
    // A host that a credential is not for does not get it by being called like one that it is for.
    let request = Request::get("/").header("host", "api.openai.com").body(text("")).unwrap();
    assert_eq!(bed.http1().await.send(request).await.unwrap().status(), 421);
    assert_eq!(bed.http1().await.get("/").await.unwrap().text(), "hello");
    assert_eq!(bed.server.seen().len(), 1);
    assert!(!bed.server.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_suffix_is_for_the_name_and_those_below_it() {
    let config = load(
        "swaps: {all: {type: static, key_ref: env:KEY, domains: [.example.com, one.example], header: X-Key, format: 'k={key};'}}",
    );
    let ca = Ca::new();
    for (name, has) in [("example.com", true), ("a.example.com", true), ("one.example", true), ("x.one.example", false)]
    {
        let server = Server::start(Some(ca.server(name, Kind::Valid, &BOTH)));
        let swaps = config.resolve(&Sources::of_variables([("KEY", KEY)])).unwrap();
        let bed = Bed::between(name, server, true, &ca, swaps);
        bed.http1().await.get("/").await.unwrap();
        let value = bed.server.seen()[0].headers.get("x-key").cloned();
        assert_eq!(value.is_some(), has, "{name}");
        assert!(value.is_none_or(|value| value == format!("k={KEY};").as_str()));
    }
}

#[tokio::test]
async fn a_credential_is_not_sent_in_the_clear() {
    let config =
        load("swaps: {all: {type: static, key_ref: env:KEY, domains: [api.example], header: X-Key, format: '{key}'}}");
    let bed = Bed::plain(config.resolve(&Sources::of_variables([("KEY", KEY)])).unwrap());
    let stream = open(&bed.interceptor, "api.example", bed.server.address, false);
    let io = hyper_util::rt::TokioIo::new(tokio::net::UnixStream::from_std(stream).unwrap());
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(driver);
    let request = Request::get("/").header("host", "api.example").body(text("")).unwrap();
    let answer = Got::of(sender.send_request(request).await.unwrap()).await.unwrap();
    answer.is_denial(403, "not sent in the clear");
    assert!(bed.server.seen().is_empty());
    let event = bed.event(|event| event.event == Happened::SwapError);
    assert_eq!(event.credential.as_deref(), Some("all"));
}

#[tokio::test]
async fn a_value_that_the_server_repeats_does_not_reach_the_guest() {
    let bed = Bed::swapping("api.openai.com", &SwapConfig::provider("openai").unwrap(), &[("OPENAI_API_KEY", KEY)]);
    for answer in [bed.http1().await.get("/repeat").await.unwrap(), bed.http2().await.get("/repeat").await.unwrap()] {
        assert_eq!(answer.headers["x-repeated"], "Bearer microagent-swap-openai");
        assert!(!format!("{answer:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn a_websocket_has_its_credential_in_the_handshake() {
    let bed = Bed::swapping("api.openai.com", &SwapConfig::provider("openai").unwrap(), &[("OPENAI_API_KEY", KEY)]);
    let request = Request::get("/websocket")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(text(""))
        .unwrap();
    assert_eq!(bed.http1().await.send(request).await.unwrap().status(), 101);
    assert_eq!(bed.server.seen()[0].headers["authorization"], format!("Bearer {KEY}").as_str());
}
