//! A server that answers as Vault does, and some that do not.

mod common;

use common::server::{Answer, Asked, Server, json};
use common::{reference, resolve, shown, value};
use microagent_protocol::Fault;
use microagent_secret::{Error, MAX_BYTES, Sources, VaultError};
use rustix::net::{AddressFamily, SocketType};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

const TOKEN: &str = "hvs.root";
/// What a server that never answers is given. Nothing depends on its being long enough.
const SHORT: Duration = Duration::from_millis(300);

/// Answers as a Vault of version 1.15 does, with an engine of version 2 at `secret/` and one of version 1 at `old/`.
fn vault(asked: &Asked) -> Answer {
    if asked.headers.get("x-vault-token").is_none_or(|token| token != TOKEN) {
        return json(403, r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#);
    }
    let deleted = r#"{"created_time":"2024-01-01T00:00:00Z","custom_metadata":null,"deletion_time":"2024-01-02T00:00:00Z","destroyed":false,"version":2}"#;
    match asked.target.as_str() {
        "/v1/secret/data/app" | "/v1/secret/data/a%20b/c" => json(
            200,
            r#"{"request_id":"a","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"token":"hunter-2","port":8200,"on":true,"empty":"","list":["hunter-2"],"nothing":null},"metadata":{"created_time":"2024-01-01T00:00:00Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
        ),
        "/v1/secret/data/deleted" => json(
            404,
            &format!(
                r#"{{"request_id":"a","data":{{"data":null,"metadata":{deleted}}},"wrap_info":null,"warnings":null,"auth":null}}"#
            ),
        ),
        "/v1/old/data/app" => json(200, r#"{"request_id":"a","data":{"token":"hunter-2"},"auth":null}"#),
        "/v1/none/data/app" => {
            json(404, r#"{"errors":["no handler for route \"none/data/app\". route entry not found."]}"#)
        }
        "/v1/secret/data/denied" => json(403, r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#),
        "/v1/secret/data/sealed" => json(503, r#"{"errors":["Vault is sealed"]}"#),
        "/v1/secret/data/bad" => json(400, r#"{"errors":["hunter-2"]}"#),
        "/v1/secret/data/quota" => json(429, r#"{"errors":["request path: rate limit quota exceeded"]}"#),
        "/v1/secret/data/broken" => json(500, r#"{"errors":["internal error"]}"#),
        "/v1/secret/data/teapot" => json(418, ""),
        _ => json(404, r#"{"errors":[]}"#),
    }
}

fn sources(server: &Server) -> Sources {
    Sources::of_variables([("VAULT_ADDR", format!("http://{}", server.address)), ("VAULT_TOKEN", TOKEN.to_owned())])
}

/// What is wrong with `text`. Nothing that was or could be a value, and not the token, is in it.
fn problem(sources: &Sources, text: &str) -> VaultError {
    let error = resolve(sources, text).unwrap_err();
    let all = shown(&error);
    assert!(!all.contains("hunter") && !all.contains(TOKEN), "{all}");
    assert!(all.contains("vault:"), "{all}");
    match error {
        Error::Vault { reference: of, source } => {
            assert_eq!(of, reference(text));
            source
        }
        other => panic!("{text}: {other}"),
    }
}

#[test]
fn a_field_is_had_with_the_token() {
    let server = Server::start(vault);
    let sources = sources(&server);
    assert_eq!(value(&sources, "vault:secret/data/app#token"), "hunter-2");
    assert_eq!(value(&sources, "vault:secret/data/app#port"), "8200");
    assert_eq!(value(&sources, "vault:secret/data/app#on"), "true");
    assert_eq!(value(&sources, "vault:secret/data/a b/c#token"), "hunter-2");
    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/v1/secret/data/app"));
    assert_eq!(asked.headers["x-vault-request"], "true");
    assert!(!asked.headers.contains_key("x-vault-namespace"));
}

#[test]
fn each_way_to_fail_has_an_error_of_its_own() {
    let server = Server::start(vault);
    let sources = sources(&server);
    let code = |text: &str| problem(&sources, text).code().to_owned();
    for (path, expected) in [
        ("secret/data/app#password", "secret_vault_field_missing"),
        ("secret/data/app#list", "secret_vault_field_not_text"),
        ("secret/data/app#nothing", "secret_vault_field_not_text"),
        ("secret/data/deleted#token", "secret_vault_version_deleted"),
        ("secret/data/other#token", "secret_vault_path_missing"),
        ("none/data/app#token", "secret_vault_path_missing"),
        ("old/data/app#token", "secret_vault_answer_invalid"),
        ("secret/data/denied#token", "secret_vault_denied"),
        ("secret/data/sealed#token", "secret_vault_sealed"),
        ("secret/data/bad#token", "secret_vault_bad_request"),
        ("secret/data/quota#token", "secret_vault_busy"),
        ("secret/data/broken#token", "secret_vault_busy"),
        ("secret/data/teapot#token", "secret_vault_status"),
    ] {
        assert_eq!(code(&format!("vault:{path}")), expected, "{path}");
    }
    let error = resolve(&sources, "vault:secret/data/app#empty").unwrap_err();
    assert!(matches!(error, Error::Empty { .. }), "{error}");
    assert!(problem(&sources, "vault:secret/data/sealed#token").retryable());
}

#[test]
fn the_token_is_the_variable_or_the_file_that_a_login_leaves() {
    let server = Server::start(vault);
    let address = format!("http://{}", server.address);
    let home = tempfile::tempdir().unwrap();
    let with = |variables: &[(&str, &str)]| {
        let home = home.path().to_str().unwrap();
        let all = [("VAULT_ADDR", address.as_str()), ("HOME", home)];
        Sources::of_variables(all.into_iter().chain(variables.iter().copied()))
    };
    let text = "vault:secret/data/app#token";
    assert!(matches!(problem(&with(&[]), text), VaultError::NoToken));
    let without_home = Sources::of_variables([("VAULT_ADDR", address.as_str())]);
    assert!(matches!(problem(&without_home, text), VaultError::NoToken));
    assert!(matches!(problem(&with(&[("VAULT_TOKEN", "other")]), text), VaultError::Denied));

    std::fs::write(home.path().join(".vault-token"), format!("{TOKEN}\n")).unwrap();
    assert_eq!(value(&with(&[]), text), "hunter-2");
    assert_eq!(value(&with(&[("VAULT_TOKEN", "")]), text), "hunter-2");
    assert!(matches!(problem(&with(&[("VAULT_TOKEN", "other")]), text), VaultError::Denied));
    for token in ["hvs.hunter-2\r\nX-Evil: 1", "hunter-2 ", "hünter-2"] {
        let problem = problem(&with(&[("VAULT_TOKEN", token)]), text);
        assert!(matches!(problem, VaultError::BadSetting { setting: "VAULT_TOKEN", .. }), "{problem}");
    }
    std::fs::write(home.path().join(".vault-token"), "\n").unwrap();
    assert!(matches!(problem(&with(&[]), text), VaultError::BadSetting { setting: "~/.vault-token", .. }));
    std::fs::remove_file(home.path().join(".vault-token")).unwrap();
    std::fs::create_dir(home.path().join(".vault-token")).unwrap();
    assert_eq!(problem(&with(&[]), text).code(), "secret_file_invalid");
}

#[test]
fn the_namespace_is_passed_on() {
    let server = Server::start(vault);
    let sources = Sources::of_variables([
        ("VAULT_ADDR", format!("http://{}/", server.address)),
        ("VAULT_TOKEN", TOKEN.to_owned()),
        ("VAULT_NAMESPACE", "team/a".to_owned()),
    ]);
    value(&sources, "vault:secret/data/app#token");
    assert_eq!(server.asked()[0].headers["x-vault-namespace"], "team/a");
    assert_eq!(server.asked()[0].target, "/v1/secret/data/app");
}

#[test]
fn without_an_address_or_without_encryption_nothing_is_sent() {
    let text = "vault:secret/data/app#token";
    let with = |address: &str| Sources::of_variables([("VAULT_ADDR", address), ("VAULT_TOKEN", TOKEN)]);
    assert!(matches!(problem(&Sources::of_variables([("VAULT_TOKEN", TOKEN)]), text), VaultError::NoAddress));
    assert!(matches!(problem(&with(""), text), VaultError::NoAddress));
    assert!(matches!(problem(&with("http://192.0.2.1:8200"), text), VaultError::NotEncrypted));
    assert!(matches!(problem(&with("hunter-2"), text), VaultError::BadSetting { setting: "VAULT_ADDR", .. }));
}

#[test]
fn the_token_is_not_taken_to_another_server() {
    let other = Server::start(vault);
    let location = format!("Location: http://{}/v1/secret/data/app\r\n", other.address);
    let standby = Server::start(move |_| Answer::Whole(307, location.clone(), String::new()));
    assert!(matches!(problem(&sources(&standby), "vault:secret/data/app#token"), VaultError::Redirected));
    assert!(other.asked().is_empty());
}

#[test]
fn an_answer_that_does_not_come_or_does_not_end_is_not_waited_for() {
    let unending = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\"".to_vec();
    for bytes in [Vec::new(), unending] {
        let server = Server::start(move |_| Answer::Stall(bytes.clone()));
        let problem = problem(&sources(&server).with_deadline(SHORT), "vault:secret/data/app#token");
        assert!(matches!(problem, VaultError::TimedOut { deadline } if deadline == SHORT), "{problem}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_none() {
    let answered = |answer: fn(&Asked) -> Answer| {
        let server = Server::start(answer);
        problem(&sources(&server), "vault:secret/data/app#token")
    };
    let long = answered(|_| json(200, &format!(r#"{{"data":"{}"}}"#, "x".repeat(MAX_BYTES))));
    assert!(matches!(long, VaultError::TooLong), "{long}");
    let page = answered(|_| json(200, "<html>hunter-2</html>"));
    assert!(matches!(page, VaultError::BadAnswer), "{page}");
    let cut = answered(|_| Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\"".to_vec()));
    assert!(matches!(cut, VaultError::Unreachable { .. }), "{cut}");
    let other = answered(|_| Answer::Bytes(b"220 hunter-2 ESMTP\r\n".to_vec()));
    assert!(matches!(other, VaultError::Unreachable { .. }), "{other}");
}

#[test]
fn a_server_that_is_not_there_is_said_not_to_be() {
    // A port that nobody else can have, and that nobody listens on.
    let held = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&held).unwrap()).unwrap();
    let sources = Sources::of_variables([("VAULT_ADDR", format!("http://{address}")), ("VAULT_TOKEN", TOKEN.into())]);
    let error = resolve(&sources, "vault:secret/data/app#token").unwrap_err();
    assert!(shown(&error).contains("refused") && error.retryable(), "{}", shown(&error));
}

/// A certificate for this host that is its own authority, in PEM, and a server's configuration with it.
fn certificate() -> (String, Arc<rustls::ServerConfig>) {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    (own.cert.pem(), Arc::new(config))
}

#[test]
fn a_server_is_believed_by_the_authority_that_was_named_for_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (pem, config) = certificate();
    std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
    std::fs::write(dir.path().join("other.pem"), certificate().0).unwrap();
    std::fs::write(dir.path().join("none.pem"), "hunter-2").unwrap();
    let server = Server::start_tls(config, vault);
    let with = |authority: &str| {
        let address = format!("https://{}", server.address);
        let all = [("VAULT_ADDR", address.as_str()), ("VAULT_TOKEN", TOKEN), ("VAULT_CACERT", authority)];
        Sources::of_variables(all).relative_to(dir.path())
    };
    let text = "vault:secret/data/app#token";
    assert_eq!(value(&with("ca.pem"), text), "hunter-2");
    let path = dir.path().join("ca.pem");
    assert_eq!(value(&with(path.to_str().unwrap()), text), "hunter-2");
    for authority in ["other.pem", ""] {
        let error = resolve(&with(authority), text).unwrap_err();
        assert!(shown(&error).contains("certificate"), "{}", shown(&error));
    }
    assert!(matches!(problem(&with("none.pem"), text), VaultError::BadSetting { setting: "VAULT_CACERT", .. }));
    assert_eq!(problem(&with("missing.pem"), text).code(), "secret_file");
    assert_eq!(server.asked().len(), 2, "the token was sent to a server that is not believed");
}
