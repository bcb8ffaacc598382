//! Version 2 of the key-value engine of a Vault server.
//!
//! One `GET /v1/PATH` with the token in `X-Vault-Token`. What the server says in words is not repeated: the status says
//! enough, and words come from whoever answers.

mod address;
mod answer;
mod error;
mod settings;

pub use error::VaultError;

use crate::read::bounded;
use crate::{Secret, Sources};
use settings::Settings;
use std::io;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};

/// The value of `field` at `path`.
pub(crate) fn fetch(sources: &Sources, path: &str, field: &str) -> Result<Secret, VaultError> {
    let settings = Settings::of(sources)?;
    let deadline = sources.deadline();
    let url = settings.address.url(path);
    let mut request = agent(&settings, sources.environment().is_of_process(), deadline)
        .get(&url)
        // What keeps a page in a browser from asking; a server can be set to want it.
        .header("X-Vault-Request", "true")
        .header("X-Vault-Token", settings.token);
    if let Some(namespace) = settings.namespace {
        request = request.header("X-Vault-Namespace", namespace);
    }
    let response = request.call().map_err(|error| failed(error, deadline))?;
    let status = response.status().as_u16();
    if let Some(error) = refused(status) {
        return Err(error);
    }
    let body = body(response, deadline)?;
    match status {
        200 => answer::field(&body, field),
        _ if answer::is_deleted(&body) => Err(VaultError::Deleted),
        _ => Err(VaultError::Missing),
    }
}

/// A client that honours the proxy variables of this process where `proxied`.
fn agent(settings: &Settings, proxied: bool, deadline: Duration) -> Agent {
    let roots = match &settings.roots {
        Some(certificates) => RootCerts::from(certificates.iter().cloned()),
        None => RootCerts::PlatformVerifier,
    };
    let mut config = Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .user_agent(concat!("microagent/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        // The token is for this server alone.
        .max_redirects(0)
        .timeout_global(Some(deadline));
    if !proxied || settings.address.is_loopback() {
        // Asked for a loopback address, a proxy would take its own, and be given the token.
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// What a status means whose body makes no difference (Vault's documentation, "HTTP API", "HTTP status codes").
fn refused(status: u16) -> Option<VaultError> {
    Some(match status {
        // The version of a secret that was deleted has a body of its own.
        200 | 404 => return None,
        300..=399 => VaultError::Redirected,
        400 => VaultError::BadRequest,
        403 => VaultError::Denied,
        412 | 429 | 500 | 502 | 504 => VaultError::Busy { status },
        503 => VaultError::Sealed,
        _ => VaultError::Unexpected { status },
    })
}

fn body(response: Response<ureq::Body>, deadline: Duration) -> Result<zeroize::Zeroizing<Vec<u8>>, VaultError> {
    let read = bounded(response.into_body().into_reader());
    read.map_err(|error| failed(error.into(), deadline))?.ok_or(VaultError::TooLong)
}

/// An error without what it may repeat of the answer.
fn failed(error: ureq::Error, deadline: Duration) -> VaultError {
    let source: Box<dyn std::error::Error + Send + Sync> = match error {
        ureq::Error::Timeout(_) => return VaultError::TimedOut { deadline },
        ureq::Error::Io(source) if source.kind() == io::ErrorKind::TimedOut => {
            return VaultError::TimedOut { deadline };
        }
        ureq::Error::Io(source) => source.into(),
        ureq::Error::Rustls(source) => source.into(),
        ureq::Error::HostNotFound => "there is no host of that name".into(),
        ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl => "the proxy does not let it".into(),
        _ => "what answers does not speak HTTP".into(),
    };
    VaultError::Unreachable { source }
}
