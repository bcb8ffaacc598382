//! The environment of a process, which a test cannot change for its own.

mod common;

use common::server::{Server, json};
use common::{script, value};
use microagent_secret::Sources;
use std::process::Command;

const VAULT: &str = r#"{"data":{"data":{"f":"from vault"},"metadata":{"version":1}}}"#;

#[test]
fn the_environment_of_the_process_is_where_values_come_from() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".vault-token"), "t").unwrap();
    std::fs::write(home.path().join("f"), "from file\n").unwrap();
    let helper = script(home.path(), "helper", "printf '%s' \"from helper, $OWN\"");
    let server = Server::start(|_| json(200, VAULT));
    // Asked for the loopback address of this host, it would be given the token.
    let proxy = Server::start(|_| json(200, r#"{"data":{"data":{"f":"from proxy"},"metadata":{}}}"#));
    let proxy_url = format!("http://{}", proxy.address);
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("OWN", "from env")
        .env("VAULT_ADDR", format!("http://{}", server.address))
        .env("MICROAGENT_SECRET_HELPER", helper)
        .envs(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"].map(|variable| (variable, &proxy_url)))
        .env_remove("VAULT_TOKEN")
        .env_remove("VAULT_NAMESPACE")
        .env_remove("VAULT_CACERT")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_eq!(server.asked()[0].headers["x-vault-token"], "t");
    assert!(proxy.asked().is_empty());
}

#[test]
#[ignore = "run by the other one, in an environment made for it"]
fn child() {
    if std::env::var_os("OWN").is_none() {
        return;
    }
    let sources = Sources::of_process();
    assert_eq!(value(&sources, "env:OWN"), "from env");
    assert_eq!(value(&sources, "file:f"), "from file");
    assert_eq!(value(&sources, "file:~/f"), "from file");
    assert_eq!(value(&sources, "helper:x"), "from helper, from env");
    assert_eq!(value(&sources, "vault:kv/data/a#f"), "from vault");
    assert_eq!(format!("{sources:?}").matches("from").count(), 0);
}
