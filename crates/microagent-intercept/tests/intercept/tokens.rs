//! Credentials that are got when they are needed.

use crate::bed::{BOTH, Bed, Ca, DEADLINE, Kind, Server, text, within};
use crate::swaps::load;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hyper::http::Request;
use microagent_egress::Happened;
use microagent_intercept::{Connect, Swaps};
use microagent_secret::Sources;
use microagent_testing::{run, tool};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Swaps for `api.example` whose tokens come from `url`.
fn client(url: &str, more: &str) -> Swaps {
    let config = load(&format!(
        "swaps:\n  app:\n    type: oauth2-cc\n    domains: [api.example]\n    header: Authorization\n    format: Bearer {{key}}\n    \
         token_url: {url}\n    client_id_ref: env:ID\n    client_secret_ref: env:SECRET\n{more}"
    ));
    config.resolve(&Sources::of_variables([("ID", "me"), ("SECRET", "client-s3cret")])).unwrap()
}

fn plain(endpoint: &Server) -> String {
    format!("http://{}/token", endpoint.address)
}

fn bed(swaps: Swaps) -> Bed {
    Bed::with("api.example", Kind::Valid, &BOTH, swaps)
}

/// The tokens that the server saw.
fn seen(bed: &Bed) -> Vec<String> {
    let value = |seen: crate::bed::Seen| seen.headers["authorization"].to_str().unwrap().to_owned();
    bed.server.seen().into_iter().map(value).collect()
}

#[tokio::test]
async fn a_token_is_got_once_and_used_until_it_runs_out() {
    let endpoint = Server::scripted(None, |count, headers, form| {
        assert_eq!(headers["authorization"], format!("Basic {}", BASE64_STANDARD.encode("me:client-s3cret")).as_str());
        assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
        assert_eq!(form, "grant_type=client_credentials&scope=read+write");
        (200, format!(r#"{{"access_token":"token-s3cret-{count}","expires_in":3600,"token_type":"bearer"}}"#))
    });
    let bed = bed(client(&plain(&endpoint), "    scopes: [read, write]\n"));
    for _ in 0..3 {
        assert_eq!(bed.http1().await.get("/").await.unwrap().text(), "hello");
    }
    assert_eq!(seen(&bed), ["Bearer token-s3cret-1"; 3]);
    assert_eq!(endpoint.seen().len(), 1);
    assert_eq!(endpoint.seen()[0].uri, "/token");
    assert_eq!(bed.events().iter().filter(|event| event.event == Happened::Swap).count(), 3);
    assert!(!bed.record().contains("s3cret"));
}

#[tokio::test]
async fn many_requests_at_once_wait_for_one_token() {
    let endpoint = Server::scripted(None, |_, _, _| (200, r#"{"access_token":"t","expires_in":3600}"#.to_owned()));
    let bed = bed(client(&plain(&endpoint), ""));
    let http2 = bed.http2().await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut client = http2.clone();
        all.spawn(async move { client.get("/").await.unwrap().status });
    }
    assert!(within(all.join_all()).await.iter().all(|status| *status == 200));
    assert_eq!(endpoint.seen().len(), 1);
}

#[tokio::test]
async fn many_requests_at_once_do_not_all_try_what_has_failed_for_one() {
    let endpoint = Server::scripted(None, |_, _, _| {
        // Long enough for the others to come, as it is when an endpoint is down.
        std::thread::sleep(Duration::from_millis(500));
        (503, String::new())
    });
    let bed = bed(client(&plain(&endpoint), ""));
    let http2 = bed.http2().await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut client = http2.clone();
        all.spawn(async move { client.get("/").await.unwrap().status });
    }
    assert!(within(all.join_all()).await.iter().all(|status| *status == 502));
    assert!(endpoint.seen().len() < 25, "{}", endpoint.seen().len());
}

#[tokio::test]
async fn a_token_that_has_run_out_is_got_anew() {
    let endpoint = Server::scripted(None, |count, _, _| {
        (200, format!(r#"{{"access_token":"token-{count}","expires_in":{}}}"#, if count == 1 { 1 } else { 3600 }))
    });
    let bed = bed(client(&plain(&endpoint), ""));
    let mut http1 = bed.http1().await;
    let until = Instant::now() + DEADLINE;
    while !seen(&bed).contains(&"Bearer token-2".to_owned()) {
        assert!(Instant::now() < until, "the token never runs out");
        http1.get("/").await.unwrap();
    }
    assert_eq!(seen(&bed)[0], "Bearer token-1");
}

#[tokio::test]
async fn a_token_that_the_server_does_not_take_is_not_kept() {
    let endpoint = Server::scripted(None, |count, _, _| (200, format!(r#"{{"access_token":"token-{count}"}}"#)));
    let bed = bed(client(&plain(&endpoint), ""));
    let mut http1 = bed.http1().await;
    assert_eq!(http1.get("/status/401").await.unwrap().status, 401);
    assert_eq!(http1.get("/").await.unwrap().status, 200);
    assert_eq!(seen(&bed), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test]
async fn without_a_token_no_request_is_sent() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused =
        Server::scripted(None, |_, _, _| (401, r#"{"error":"invalid_client","was":"client-s3cret"}"#.to_owned()));
    let nonsense = Server::scripted(None, |_, _, _| (200, "token-s3cret".to_owned()));
    let broken = Server::scripted(None, |_, _, _| (200, r#"{"access_token":"s3cret\nX: y"}"#.to_owned()));
    for (url, reason) in [
        (format!("http://{closed}/"), "cannot be reached"),
        (plain(&refused), "401 and `invalid_client`"),
        (plain(&nonsense), "JSON"),
        (plain(&broken), "one line"),
    ] {
        let bed = bed(client(&url, ""));
        let answer = bed.http2().await.get("/").await.unwrap();
        answer.is_denial(502, "`app`");
        assert!(answer.text().contains(reason) && !answer.text().contains("s3cret"), "{answer:?}");
        assert!(bed.server.seen().is_empty());
        let event = bed.event(|event| event.event == Happened::SwapError);
        assert_eq!(event.credential.as_deref(), Some("app"));
        assert!(event.detail.unwrap().contains(reason) && !bed.record().contains("s3cret"));
    }
}

#[tokio::test]
async fn a_token_endpoint_that_comes_back_is_asked_again() {
    let endpoint = Server::scripted(None, |count, _, _| match count {
        1 => (503, String::new()),
        _ => (200, r#"{"access_token":"t"}"#.to_owned()),
    });
    let bed = bed(client(&plain(&endpoint), ""));
    let mut http2 = bed.http2().await;
    assert_eq!(http2.get("/").await.unwrap().status, 502);
    assert_eq!(http2.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_token_endpoint_has_a_certificate_that_holds() {
    let ca = Ca::new();
    for (kind, status) in [(Kind::Valid, 200), (Kind::OfAnotherName, 502), (Kind::Expired, 502)] {
        let script = |_: usize, _: &hyper::http::HeaderMap, _: &str| (200, r#"{"id":"t"}"#.to_owned());
        let endpoint = Server::scripted(Some(ca.server("localhost", kind, &[])), script);
        let url = format!("https://localhost:{}/token", endpoint.address.port());
        let server = Server::start(Some(ca.server("api.example", Kind::Valid, &BOTH)));
        let swaps = client(&url, "    token_response_field: id\n");
        let bed = Bed::between("api.example", server, true, &ca, swaps);
        assert_eq!(bed.http1().await.get("/").await.unwrap().status, status, "{kind:?}");
        assert_eq!(endpoint.seen().len(), usize::from(status == 200), "{kind:?}");
    }
}

/// Leads to one server, whoever is named, and tells who was.
#[derive(Debug)]
struct Led(SocketAddr, Mutex<Vec<(String, u16)>>);

impl Connect for Led {
    fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        self.1.lock().unwrap().push((host.to_owned(), port));
        TcpStream::connect(self.0)
    }
}

#[tokio::test]
async fn a_token_endpoint_is_reached_by_the_way_that_the_host_has() {
    let ca = Ca::new();
    let script = |_: usize, _: &hyper::http::HeaderMap, _: &str| (200, r#"{"access_token":"t"}"#.to_owned());
    let endpoint = Server::scripted(Some(ca.server("login.example", Kind::Valid, &[])), script);
    let server = Server::start(Some(ca.server("api.example", Kind::Valid, &BOTH)));
    let led = Arc::new(Led(endpoint.address, Mutex::default()));
    let swaps = client("https://login.example/token", "");
    let bed = Bed::connecting("api.example", server, true, &ca, swaps, Arc::clone(&led) as Arc<dyn Connect>);
    assert_eq!(bed.http1().await.get("/").await.unwrap().status, 200);
    assert_eq!(seen(&bed), ["Bearer t"]);
    assert_eq!(*led.1.lock().unwrap(), [("login.example".to_owned(), 443)]);
}

/// An RSA key, as PEM.
fn rsa() -> String {
    let arguments = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    String::from_utf8(run(tool("openssl").args(arguments))).unwrap()
}

/// The claims of `token`, which `key` has signed.
fn claims(token: &str, key: &str) -> serde_json::Value {
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header, serde_json::json!({"alg": "RS256", "typ": "JWT"}));
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    let signed = &token[..token.rfind('.').unwrap()];
    public.verify(signed.as_bytes(), &decode(signature)).expect("the signature holds");
    serde_json::from_slice(&decode(claims)).unwrap()
}

#[tokio::test]
async fn a_token_of_our_own_is_signed_and_says_what_it_is_to() {
    let key = rsa();
    let config = load(
        "swaps:\n  app:\n    type: jwt-bearer\n    domains: [api.example]\n    header: Authorization\n    format: Bearer {key}\n    \
         signing_key_ref: env:KEY\n    claims: {iss: '12', admin: true, n: 3}\n    token_ttl_seconds: 600\n",
    );
    let bed = bed(config.resolve(&Sources::of_variables([("KEY", key.as_str())])).unwrap());
    for _ in 0..2 {
        bed.http1().await.get("/").await.unwrap();
    }
    let seen = seen(&bed);
    assert_eq!(seen[0], seen[1]);
    let claims = claims(seen[0].strip_prefix("Bearer ").unwrap(), &key);
    assert_eq!((&claims["iss"], &claims["admin"], &claims["n"]), (&"12".into(), &true.into(), &3.into()));
    let issued = claims["iat"].as_u64().unwrap();
    assert_eq!(claims["exp"].as_u64().unwrap(), issued + 600);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now >= issued && now - issued < DEADLINE.as_secs());
}

#[tokio::test]
async fn a_token_of_our_own_is_given_for_another() {
    let key = rsa();
    let endpoint = Server::scripted(None, |_, headers, form| {
        assert!(!headers.contains_key("authorization"));
        let assertion =
            form.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
        (200, format!(r#"{{"access_token":"for-{}"}}"#, assertion.unwrap()))
    });
    let url = plain(&endpoint);
    let config = load(&format!(
        "swaps:\n  app:\n    type: jwt-bearer\n    domains: [api.example]\n    header: Authorization\n    format: '{{key}}'\n    \
         signing_key_ref: env:KEY\n    token_url: {url}\n    claims: {{iss: me}}\n"
    ));
    let bed = bed(config.resolve(&Sources::of_variables([("KEY", key.as_str())])).unwrap());
    bed.http1().await.send(Request::get("/").body(text("")).unwrap()).await.unwrap();
    let claims = claims(seen(&bed)[0].strip_prefix("for-").unwrap(), &key);
    // It is for whoever gives the other one, unless something else is said.
    assert_eq!((&claims["iss"], &claims["aud"]), (&"me".into(), &url.into()));
}
