//! A certificate authority that servers have their certificates from.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// What a certificate is like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Valid,
    Expired,
    OfAnotherName,
    SelfSigned,
}

impl Ca {
    pub(crate) fn new() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's configuration for `name`, which speaks `protocols`.
    pub(crate) fn server(&self, name: &str, kind: Kind, protocols: &[&str]) -> Arc<ServerConfig> {
        let name = if matches!(kind, Kind::OfAnotherName) { "other.example" } else { name };
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let day = Duration::from_hours(24);
        let now = OffsetDateTime::now_utc();
        params.not_before = now - 30 * day;
        params.not_after = if matches!(kind, Kind::Expired) { now - day } else { now + day };
        let key = KeyPair::generate().unwrap();
        let certificate = match kind {
            Kind::SelfSigned => params.self_signed(&key).unwrap(),
            _ => params.signed_by(&key, &self.0).unwrap(),
        };
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
