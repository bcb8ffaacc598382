//! Registry credentials, from where `docker login` puts them.
//!
//! `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. For a registry, a helper named in `credHelpers` comes
//! first, then the helper in `credsStore`, then an entry of `auths`. A helper that knows nothing of the registry is not
//! an error: the pull goes on anonymously.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::{Error, Reference};

/// The key of Docker Hub in `auths` and to helpers, kept from its first protocol.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers print when they have no entry. Their exit status does not tell it from a failure.
const HELPER_NOT_FOUND: &str = "credentials not found";

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What to show a registry or its token server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// User name and password.
    Basic { user: String, password: Secret },
    /// A refresh token, exchanged for an access token at the token server.
    IdentityToken(Secret),
    /// A bearer token, sent as it is.
    RegistryToken(Secret),
}

impl Credentials {
    /// The `Authorization: Basic` value, for credentials that can be sent so.
    pub(super) fn basic_header(&self) -> Option<HeaderValue> {
        let Credentials::Basic { user, password } = self else { return None };
        let encoded = STANDARD.encode(format!("{user}:{}", password.reveal()));
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The parts of Docker's configuration file that concern registries.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

impl DockerConfig {
    /// Reads the configuration in `directory`, or else of this user; one that does not exist is empty.
    pub(super) fn load(directory: Option<&Path>) -> Result<DockerConfig, Error> {
        let from_environment =
            || std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        let of_user = || std::env::home_dir().map(|home| home.join(".docker"));
        let directory = directory.map(Path::to_owned).or_else(from_environment).or_else(of_user);
        let Some(directory) = directory else { return Ok(DockerConfig::default()) };
        let path = directory.join("config.json");
        match std::fs::read(&path) {
            Ok(bytes) => DockerConfig::parse(&bytes, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DockerConfig::default()),
            Err(error) => Err(Error::InvalidCredentials { path, reason: error.to_string() }),
        }
    }

    fn parse(bytes: &[u8], path: PathBuf) -> Result<DockerConfig, Error> {
        match serde_json::from_slice(bytes) {
            Ok(config) => Ok(DockerConfig { path, ..config }),
            // The position is enough: the parser's own text can quote what stands there, which may be a password.
            Err(error) => {
                let reason = format!("not the expected JSON at line {} column {}", error.line(), error.column());
                Err(Error::InvalidCredentials { path, reason })
            }
        }
    }

    /// The credentials for the registry of `reference`, if there are any.
    pub(super) async fn credentials(&self, reference: &Reference) -> Result<Option<Credentials>, Error> {
        let keys = keys(reference);
        let own_helper = keys.iter().find_map(|key| Some((key, self.cred_helpers.get(key)?)));
        let shared_helper = self.creds_store.as_ref().filter(|name| !name.is_empty()).map(|name| (&keys[0], name));
        for (key, name) in own_helper.into_iter().chain(shared_helper) {
            let (key, name) = (key.clone(), name.clone());
            let answer = tokio::task::spawn_blocking(move || ask_helper(&name, &key)).await;
            let answer = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            if answer.is_some() {
                return Ok(answer);
            }
        }
        match keys.iter().find_map(|key| self.entry(key)) {
            Some(entry) => self.read_entry(entry),
            None => Ok(None),
        }
    }

    /// The entry whose key is `key`, also if it was written as a URL.
    fn entry(&self, key: &str) -> Option<&Entry> {
        let bare = |text: &str| {
            let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
            text.split('/').next().unwrap_or(text).to_owned()
        };
        let found = self.auths.get(key);
        found.or_else(|| self.auths.iter().find(|(name, _)| bare(name) == bare(key)).map(|(_, entry)| entry))
    }

    fn read_entry(&self, entry: &Entry) -> Result<Option<Credentials>, Error> {
        let present = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.reveal().is_empty());
        if let Some(token) = present(&entry.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(token) = present(&entry.registrytoken) {
            return Ok(Some(Credentials::RegistryToken(token)));
        }
        if let Some(auth) = present(&entry.auth) {
            let decoded = STANDARD.decode(auth.reveal().trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            // Docker pads the value with NUL bytes in some versions.
            let pair = decoded.as_deref().map(|text| text.trim_end_matches('\0')).and_then(|text| text.split_once(':'));
            let Some((user, password)) = pair else {
                let reason = "an `auth` value is not the base64 form of `user:password`".to_owned();
                return Err(Error::InvalidCredentials { path: self.path.clone(), reason });
            };
            return Ok(Some(Credentials::Basic { user: user.to_owned(), password: Secret(password.to_owned()) }));
        }
        Ok(match (&entry.username, present(&entry.password)) {
            (Some(user), Some(password)) => Some(Credentials::Basic { user: user.clone(), password }),
            _ => None,
        })
    }
}

/// The names a registry may have in the configuration, the customary one first.
fn keys(reference: &Reference) -> Vec<String> {
    match reference.registry() {
        "docker.io" => vec![DOCKER_HUB_KEY.to_owned(), "index.docker.io".to_owned(), "docker.io".to_owned()],
        registry => vec![registry.to_owned()],
    }
}

/// Runs `docker-credential-NAME get`, giving it the registry on its standard input.
fn ask_helper(name: &str, key: &str) -> Result<Option<Credentials>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: Secret,
    }
    let helper = format!("docker-credential-{name}");
    let failed = |reason: String| Error::CredentialHelper { helper: helper.clone(), host: key.to_owned(), reason };
    if name.contains('/') {
        return Err(failed("its name is a path".to_owned()));
    }
    let mut child = Command::new(&helper)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that exits without reading has its own reasons, which it prints.
        let _ = stdin.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        let answer: Answer = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed("its answer is not the expected JSON".to_owned()))?;
        return Ok(Some(match answer.username.as_str() {
            TOKEN_USER => Credentials::IdentityToken(answer.secret),
            _ => Credentials::Basic { user: answer.username, password: answer.secret },
        }));
    }
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned()).join(" ");
    if said.to_ascii_lowercase().contains(HELPER_NOT_FOUND) {
        return Ok(None);
    }
    Err(failed(format!("{} ({})", output.status, crate::error::quoted(said.trim()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, reference: &str) -> Result<Option<Credentials>, Error> {
        let config = DockerConfig::parse(json.as_bytes(), PathBuf::from("config.json"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(config.credentials(&reference.parse().unwrap()))
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.to_owned(), password: Secret(password.to_owned()) }
    }

    #[test]
    fn docker_hub_is_found_under_its_historic_key() {
        let json = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYTpzcw=="}}}"#;
        assert_eq!(find(json, "alpine").unwrap(), Some(basic("user", "pa:ss")));
        assert_eq!(find(json, "example.org/alpine").unwrap(), None);
    }

    #[test]
    fn keys_written_as_urls_match_their_host() {
        let json = r#"{"auths":{"https://example.org:5000/v2/":{"username":"u","password":"p"}}}"#;
        assert_eq!(find(json, "example.org:5000/a").unwrap(), Some(basic("u", "p")));
        assert_eq!(find(json, "example.org/a").unwrap(), None);
    }

    #[test]
    fn identity_token_is_preferred_to_the_password_beside_it() {
        let json = r#"{"auths":{"example.org":{"auth":"dTpw","identitytoken":"t"}}}"#;
        assert_eq!(find(json, "example.org/a").unwrap(), Some(Credentials::IdentityToken(Secret("t".to_owned()))));
    }

    #[test]
    fn neither_debug_output_nor_errors_show_a_secret() {
        let shown = format!("{:?}", basic("user", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        let error =
            find(r#"{"auths":{"example.org":{"auth":"dTpw","password":[hunter2]}}}"#, "example.org/a").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        let error = find(r#"{"auths":{"example.org":{"auth":"aHVudGVyMg=="}}}"#, "example.org/a").unwrap_err();
        assert!(!format!("{error:?}").contains("aHVudGVyMg"), "{error:?}");
    }

    #[test]
    fn missing_helper_is_named() {
        let error = find(r#"{"credsStore":"no-such-helper"}"#, "example.org/a").unwrap_err();
        assert!(error.to_string().contains("docker-credential-no-such-helper"), "{error}");
    }
}
