//! Tokens that are signed here (RFC 7519, by RFC 7515).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use microagent_secret::Secret;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The header of each (RFC 7515, 4.1).
const HEADER: &str = r#"{"alg":"RS256","typ":"JWT"}"#;

/// What signs.
pub(super) struct Signer {
    key: RsaKeyPair,
    claims: BTreeMap<String, Value>,
    random: SystemRandom,
}

impl Signer {
    /// With the RSA key in `pem`. Fails with what is wrong with it.
    pub(super) fn new(pem: &Secret, claims: BTreeMap<String, Value>) -> Result<Signer, String> {
        let bad = || "it is not one RSA private key of 2048 to 4096 bits as PEM".to_owned();
        let key = match PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|_| bad())? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(bad()),
        };
        Ok(Signer { key: key.map_err(|_| bad())?, claims, random: SystemRandom::new() })
    }

    /// A token that is good for `life` seconds from now.
    pub(super) fn sign(&self, life: u64) -> Result<String, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock is wrong".to_owned())?.as_secs();
        let mut claims = self.claims.clone();
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), (now + life).into());
        let claims = serde_json::to_vec(&claims).map_err(|error| error.to_string())?;
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(HEADER.as_bytes()), encode(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &self.random, signed.as_bytes(), &mut signature)
            .map_err(|_| "the token could not be signed".to_owned())?;
        Ok(format!("{signed}.{}", encode(&signature)))
    }
}
