//! Who is let in, how a connection is trusted, and how each refusal is told apart.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use common::{Store, sample};
use microagent_image::{Error, PullOptions};
use microagent_protocol::{Fault, FaultKind};
use microagent_testing::{PASSWORD, Registry, USER};
use tempfile::TempDir;

fn with_config(json: &serde_json::Value) -> (TempDir, PullOptions) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), json.to_string()).unwrap();
    let options = PullOptions { docker_config: Some(directory.path().to_owned()), ..PullOptions::default() };
    (directory, options)
}

fn anonymous() -> (TempDir, PullOptions) {
    with_config(&serde_json::json!({}))
}

fn login(registry: &Registry) -> (TempDir, PullOptions) {
    let directory = registry.login();
    let options = PullOptions { docker_config: Some(directory.path().to_owned()), ..PullOptions::default() };
    (directory, options)
}

#[test]
fn password_is_sent_where_the_registry_asks_for_it() {
    let (registry, store) = (Registry::basic(), Store::new());
    sample().push("v1", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    let (_directory, options) = anonymous();
    let error = store.pull_with(&reference, &options).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("registry_login_required", FaultKind::Denied));
    assert!(error.to_string().contains("no credentials are configured"), "{error}");
    assert!(error.hint().unwrap().contains("docker login"), "{:?}", error.hint());
    store.assert_empty();

    let wrong = serde_json::json!({"auths": {registry.address(): {"username": USER, "password": "wrong"}}});
    let (_directory, options) = with_config(&wrong);
    let error = store.pull_with(&reference, &options).unwrap_err();
    assert!(error.to_string().contains("were refused"), "{error}");

    let (_directory, options) = login(&registry);
    store.pull_with(&reference, &options).unwrap();
}

#[test]
fn token_is_fetched_with_a_password_or_an_identity_token() {
    let registry = Registry::token();
    sample().push("v1", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    let (_directory, options) = anonymous();
    let store = Store::new();
    assert!(matches!(store.pull_with(&reference, &options), Err(Error::LoginRequired { .. })));
    let (_directory, options) = login(&registry);
    store.pull_with(&reference, &options).unwrap();

    let token =
        serde_json::json!({"auths": {registry.address(): {"auth": "dTp4", "identitytoken": Registry::IDENTITY_TOKEN}}});
    let (_directory, options) = with_config(&token);
    Store::new().pull_with(&reference, &options).unwrap();
}

#[test]
fn private_ca_is_trusted_for_its_registry_and_an_unknown_one_is_a_tls_failure() {
    let (registry, store) = (Registry::tls(), Store::new());
    sample().push("v1", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    let error = store.pull(&reference).unwrap_err();
    assert_eq!(error.code(), "registry_tls_failed");
    assert!(error.hint().unwrap().contains(&format!("certs.d/{}", registry.address())), "{:?}", error.hint());
    store.assert_empty();

    let certificates = registry.certificates();
    let options = PullOptions { certificates: Some(certificates.path().to_owned()), ..PullOptions::default() };
    store.pull_with(&reference, &options).unwrap();
    let insecure = PullOptions { insecure: true, ..PullOptions::default() };
    Store::new().pull_with(&reference, &insecure).unwrap();
}

#[test]
fn unreadable_certificate_is_named() {
    let (registry, store) = (Registry::tls(), Store::new());
    let certificates = registry.certificates();
    let bad = certificates.path().join(registry.address()).join("bad.crt");
    fs::write(&bad, "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n").unwrap();
    let options = PullOptions { certificates: Some(certificates.path().to_owned()), ..PullOptions::default() };
    let error = store.pull_with(&registry.reference("demo:v1"), &options).unwrap_err();
    assert_eq!(error.code(), "invalid_certificate");
    assert!(error.to_string().contains("bad.crt"), "{error}");
}

#[test]
fn missing_tag_and_missing_repository_are_not_found() {
    let (registry, store) = (Registry::plain(), Store::new());
    sample().push("v1", &registry, "demo:v1");
    for name in ["demo:v2", "nothing:v1"] {
        let error = store.pull(&registry.reference(name)).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("image_not_found", FaultKind::NotFound));
        assert!(error.to_string().contains(name), "{error}");
    }
    store.assert_empty();
}

#[test]
fn closed_port_is_unreachable_and_worth_a_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = Store::new().pull(&format!("127.0.0.1:{port}/demo:v1")).unwrap_err();
    assert_eq!(error.code(), "registry_unreachable");
    assert!(error.retryable());
}

#[test]
fn name_that_does_not_resolve_is_told_from_a_host_that_is_down() {
    let error = Store::new().pull("no-such-registry.invalid/demo:v1").unwrap_err();
    assert_eq!(error.code(), "registry_name_not_resolved", "{error:?}");
}

/// What the process tells a child of itself to pull.
const CHILD: &str = "MICROAGENT_TEST_PULL";

/// Runs [`pulls_what_its_environment_says`] in a process with other variables.
fn pull_in_child(reference: &str, variables: &[(&str, String)]) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "pulls_what_its_environment_says", "--ignored"]).env(CHILD, reference);
    child.envs(variables.iter().map(|(name, value)| (name, value)));
    child.output().unwrap().status.success()
}

#[test]
#[ignore = "the part of other tests that runs in a process of its own"]
fn pulls_what_its_environment_says() {
    Store::new().pull(&std::env::var(CHILD).unwrap()).unwrap();
}

#[test]
fn docker_config_variable_and_credential_helpers_are_honoured() {
    let registry = Registry::basic();
    sample().push("v1", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    let login = registry.login();
    assert!(pull_in_child(&reference, &[("DOCKER_CONFIG", login.path().display().to_string())]));
    assert!(!pull_in_child(&reference, &[("DOCKER_CONFIG", "/nonexistent".to_owned())]));

    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread -r key || [ -n \"$key\" ]\nif [ \"$1 $key\" = 'get {}' ]; then\n  printf '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\nelse\n  echo 'credentials not found in native keychain'; exit 1\nfi\n",
        registry.address()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let environment = [("PATH", path), ("DOCKER_CONFIG", directory.path().display().to_string())];
    let config = directory.path().join("config.json");
    fs::write(&config, serde_json::json!({"credHelpers": {registry.address(): "test"}}).to_string()).unwrap();
    assert!(pull_in_child(&reference, &environment));
    fs::write(&config, r#"{"credsStore":"test"}"#).unwrap();
    assert!(pull_in_child(&reference, &environment));

    let open = Registry::plain();
    sample().push("v1", &open, "demo:v1");
    assert!(pull_in_child(&open.reference("demo:v1"), &environment), "a helper without an entry means anonymous");
}

#[test]
fn ca_file_variable_is_honoured() {
    let registry = Registry::tls();
    sample().push("v1", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    assert!(pull_in_child(&reference, &[("SSL_CERT_FILE", registry.ca().display().to_string())]));
    assert!(!pull_in_child(&reference, &[]));
}

#[test]
fn proxy_variables_are_honoured() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ("HTTPS_PROXY", format!("http://{}", proxy.local_addr().unwrap()));
    let excepted = [address.clone(), ("NO_PROXY", "registry.invalid".to_owned())];
    assert!(!pull_in_child("registry.invalid/demo:v1", &excepted));
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "the proxy was asked for a host that is excepted");
    proxy.set_nonblocking(false).unwrap();
    let asked = thread::spawn(move || {
        let mut line = String::new();
        let (client, _) = proxy.accept().unwrap();
        BufReader::new(client).read_line(&mut line).map(|_| line)
    });
    assert!(!pull_in_child("registry.invalid/demo:v1", &[address]));
    assert_eq!(asked.join().unwrap().unwrap().trim_end(), "CONNECT registry.invalid:443 HTTP/1.1");
}
