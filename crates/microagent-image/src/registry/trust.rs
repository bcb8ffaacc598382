//! Which certificates are believed, and when none are needed.
//!
//! The system's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace them), and for one registry those in
//! `certs.d/<registry>/*.crt` where Docker and Podman look for them. Plain HTTP is spoken only to a registry on this
//! machine, or on request; and only after it has turned out not to speak TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Error, PullOptions, Reference};

use super::failure::{self, Resolver};

/// A registry farther away than this is not worth waiting for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection on which nothing arrives for this long is dead; the transfer is continued on a new one.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Registries redirect to storage once, sometimes through a front end.
const MAX_REDIRECTS: usize = 10;
/// Where the registry API of Docker Hub lives.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// HTTP clients that trust what they should, and the URL of the registry.
pub(super) struct Endpoint {
    pub(super) client: Client,
    /// A client that does not mind when an answer is long in coming: that is so while something large is sent.
    pub(super) uploader: Client,
    pub(super) root: Url,
}

/// Finds out how the registry of `reference` is reached.
pub(super) async fn connect(reference: &Reference, options: &PullOptions) -> Result<Endpoint, Error> {
    let tls = tls(reference, options)?;
    let (client, uploader) = (client(reference, tls.clone(), Some(IDLE_TIMEOUT))?, client(reference, tls, None)?);
    let host = match reference.registry() {
        "docker.io" => DOCKER_HUB,
        registry => registry,
    };
    let url = |scheme: &str| {
        Url::parse(&format!("{scheme}://{host}/")).map_err(|error| Error::RegistryProtocol {
            host: host.to_owned(),
            action: "making its URL".to_owned(),
            reason: error.to_string(),
        })
    };
    let secure = url("https")?;
    if options.insecure || reference.is_loopback() {
        let probe = client.get(secure.join("v2/").unwrap_or_else(|_| secure.clone())).send().await;
        if let Err(error) = probe {
            if !failure::is_not_tls(&error) {
                return Err(failure::classify(error, reference.registry(), "connecting"));
            }
            return Ok(Endpoint { client, uploader, root: url("http")? });
        }
    }
    Ok(Endpoint { client, uploader, root: secure })
}

fn client(reference: &Reference, tls: ClientConfig, read_timeout: Option<Duration>) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Resolver)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::custom(redirect))
        .user_agent(concat!("microagent/", env!("CARGO_PKG_VERSION")));
    if let Some(timeout) = read_timeout {
        builder = builder.read_timeout(timeout);
    }
    if reference.is_loopback() {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| failure::classify(error, reference.registry(), "preparing the connection"))
}

/// Follows redirects, but never from HTTPS to plain HTTP.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    if from_secure && attempt.url().scheme() != "https" {
        return attempt.error("redirected from https to plain http");
    }
    attempt.follow()
}

fn tls(reference: &Reference, options: &PullOptions) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder =
        versions.map_err(|error| Error::Tls { host: reference.registry().to_owned(), source: error.into() })?;
    if options.insecure {
        let unchecked = builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)));
        return Ok(unchecked.with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    // Single unreadable certificates are common in system stores and are no reason to refuse the rest.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for directory in certificate_directories(reference.registry(), options.certificates.as_deref()) {
        add_directory(&mut roots, &directory)?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn certificate_directories(registry: &str, given: Option<&Path>) -> Vec<PathBuf> {
    let user = std::env::home_dir().map(|home| home.join(".config/containers/certs.d"));
    let system = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from);
    let given = given.map(Path::to_owned);
    given.into_iter().chain(user).chain(system).map(|directory| directory.join(registry)).collect()
}

/// Adds every `*.crt` in `directory`. One put there on purpose and not readable is an error, not a riddle.
fn add_directory(roots: &mut RootCertStore, directory: &Path) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_some_and(|extension| extension == "crt") {
            let invalid = |reason: String| Error::InvalidCertificate { path: path.clone(), reason };
            let certificates = CertificateDer::pem_file_iter(&path).map_err(|error| invalid(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
            }
        }
    }
    Ok(())
}

/// Accepts any certificate, for `insecure`; signatures of the handshake are still checked.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
