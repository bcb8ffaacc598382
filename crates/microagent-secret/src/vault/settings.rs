//! What says where Vault is, and what opens it.

use super::VaultError;
use super::address::Address;
use crate::read::regular;
use crate::{Error, Sources};
use std::io;
use ureq::http::HeaderValue;
use ureq::tls::{Certificate, PemItem, parse_pem};
use zeroize::Zeroizing;

/// The settings of Vault's own command, as far as they matter here. That certificates are not looked at
/// (`VAULT_SKIP_VERIFY`) is not to be had.
pub(super) struct Settings {
    pub(super) address: Address,
    pub(super) token: HeaderValue,
    pub(super) namespace: Option<HeaderValue>,
    /// The authorities that are believed instead of the host's.
    pub(super) roots: Option<Vec<Certificate<'static>>>,
}

impl Settings {
    pub(super) fn of(sources: &Sources) -> Result<Settings, VaultError> {
        let setting = |variable| sources.environment().setting(variable);
        let address = setting("VAULT_ADDR").ok_or(VaultError::NoAddress)?;
        let address = Address::parse(&String::from_utf8_lossy(&address))?;
        let token = match setting("VAULT_TOKEN") {
            Some(token) => header("VAULT_TOKEN", &token)?,
            None => header("~/.vault-token", token_file(sources)?.trim_ascii())?,
        };
        let namespace = setting("VAULT_NAMESPACE").map(|value| header("VAULT_NAMESPACE", &value)).transpose()?;
        let roots = setting("VAULT_CACERT").map(|path| roots(sources, &path)).transpose()?;
        Ok(Settings { address, token, namespace, roots })
    }
}

/// `value` in a header, in which it ends no line and starts no other header.
fn header(setting: &'static str, value: &[u8]) -> Result<HeaderValue, VaultError> {
    let bad = || VaultError::BadSetting { setting, reason: "not made of visible ASCII characters" };
    if value.is_empty() || !value.iter().all(u8::is_ascii_graphic) {
        return Err(bad());
    }
    let mut value = HeaderValue::from_bytes(value).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where `vault login` leaves the token.
fn token_file(sources: &Sources) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let home = sources.home().ok_or(VaultError::NoToken)?;
    match regular(&home.join(".vault-token")) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(VaultError::NoToken),
        token => Ok(token?),
    }
}

fn roots(sources: &Sources, path: &[u8]) -> Result<Vec<Certificate<'static>>, VaultError> {
    let bad = || VaultError::BadSetting { setting: "VAULT_CACERT", reason: "not a file of certificates in PEM" };
    let path = std::str::from_utf8(path).map_err(|_| bad())?;
    let text = regular(&sources.path(path)?)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| bad())? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() { Err(bad()) } else { Ok(certificates) }
}
