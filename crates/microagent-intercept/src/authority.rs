//! The certificate authority of one machine.

use crate::Error;
use crate::limits::LEAVES;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// A guest whose clock is behind, as after a restore, has to find them valid all the same.
const BACKDATED: Duration = Duration::from_hours(1);
/// As above, and a clock may have been wrong by a time zone when the machine was made.
const AUTHORITY_BACKDATED: Duration = Duration::from_hours(24);
/// How long the authority is good for. It is made anew at each start, and kept by snapshots.
const AUTHORITY_LIFE: Duration = Duration::from_hours(365 * 24);
/// How long a certificate of a host is good for.
const LEAF_LIFE: Duration = Duration::from_hours(7 * 24);
/// How long one is used for new connections, so that none runs out in an open one.
const LEAF_USE: Duration = Duration::from_hours(24);
/// Longest name of a workspace in a subject (RFC 5280, appendix A: `ub-common-name`), less what stands before it.
const MAX_COMMON_NAME: usize = 64;

/// A certificate authority whose key stays with the process that runs the machine, and with the snapshots of that, in which programs go on
/// that trust it.
pub struct Authority {
    /// Whose it is, as its certificate says.
    workspace: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    leaf_key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    random: SystemRandom,
    leaves: Mutex<HashMap<String, (Instant, Arc<CertifiedKey>)>>,
}

/// What it takes to be an authority again. Everything that trusts it can be deceived by who has this.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAuthority {
    workspace: String,
    key: String,
}

impl Authority {
    /// Makes one for `workspace`, which is named in it.
    pub fn new(workspace: &str) -> Result<Authority, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        Authority::with_key(workspace, key)
    }

    /// The authority that was kept: whoever trusted it trusts this one.
    pub fn of(kept: &KeptAuthority) -> Result<Authority, Error> {
        Authority::with_key(&kept.workspace, KeyPair::from_pem(&kept.key).map_err(failed)?)
    }

    /// What it takes to be this authority again. It is as secret as the authority.
    pub fn keep(&self) -> KeptAuthority {
        KeptAuthority { workspace: self.workspace.clone(), key: self.issuer.key().serialize_pem() }
    }

    fn with_key(workspace: &str, key: KeyPair) -> Result<Authority, Error> {
        let random = SystemRandom::new();
        let mut params = CertificateParams::default();
        let name: String = format!("microagent {workspace}").chars().take(MAX_COMMON_NAME).collect();
        params.distinguished_name = subject(&name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, AUTHORITY_BACKDATED, AUTHORITY_LIFE);
        params.serial_number = Some(serial(&random)?);
        let certificate = params.self_signed(&key).map_err(failed)?;
        // One key for all hosts: making one costs as much as signing, and who has one of them has this process.
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let signing_key = rustls::crypto::ring::sign::any_supported_type(&der).map_err(failed)?;
        Ok(Authority {
            workspace: workspace.to_owned(),
            issuer: Issuer::new(params, key),
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            leaf_key,
            signing_key,
            random,
            leaves: Mutex::default(),
        })
    }

    /// Its certificate, for the guest to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for the host `name`, with its key.
    pub(crate) fn leaf(&self, name: &str) -> Result<Arc<CertifiedKey>, Error> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, leaf)) = leaves.get(name)
            && made.elapsed() < LEAF_USE
        {
            return Ok(Arc::clone(leaf));
        }
        let leaf = Arc::new(self.sign(name)?);
        if leaves.len() >= LEAVES {
            let oldest = leaves.iter().min_by_key(|(_, (made, _))| *made).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| leaves.remove(&oldest));
        }
        leaves.insert(name.to_owned(), (Instant::now(), Arc::clone(&leaf)));
        Ok(leaf)
    }

    fn sign(&self, name: &str) -> Result<CertifiedKey, Error> {
        let mut params = CertificateParams::new([name.to_owned()]).map_err(failed)?;
        // The name is in the extension; a subject holds 64 characters, and a name may have 253.
        params.distinguished_name = if name.len() <= MAX_COMMON_NAME { subject(name) } else { subject("microagent") };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(&self.random)?);
        valid(&mut params, BACKDATED, LEAF_LIFE);
        let certificate = params.signed_by(&self.leaf_key, &self.issuer).map_err(failed)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(CertifiedKey::new(chain, Arc::clone(&self.signing_key)))
    }
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "microagent");
    subject.push(DnType::CommonName, name);
    subject
}

fn valid(params: &mut CertificateParams, backdated: Duration, life: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - backdated;
    params.not_after = now + life;
}

/// rcgen derives a serial number from the key, and the certificates of all hosts share one.
fn serial(random: &SystemRandom) -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).map_err(failed)?;
    // Positive, and not zero (RFC 5280, 4.1.2.2).
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Authority { source: Box::new(source) }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_made_once_and_the_store_of_them_is_bounded() {
        let authority = Authority::new("w").unwrap();
        let first = authority.leaf("a.example").unwrap();
        assert!(Arc::ptr_eq(&first, &authority.leaf("a.example").unwrap()));
        for index in 0..LEAVES + 10 {
            authority.leaf(&format!("h{index}.example")).unwrap();
        }
        assert_eq!(authority.leaves.lock().unwrap().len(), LEAVES);
        assert!(!Arc::ptr_eq(&first, &authority.leaf("a.example").unwrap()));
    }

    #[test]
    fn longest_names_have_certificates_too() {
        let name = [vec!["a".repeat(60); 4].join("."), "example".to_owned()].join(".");
        Authority::new(&"w".repeat(200)).unwrap().leaf(&name).unwrap();
    }

    #[test]
    fn no_key_is_printed() {
        let authority = Authority::new("w").unwrap();
        assert_eq!(format!("{authority:?}"), "Authority(..)");
        assert!(!authority.certificate_pem().contains("PRIVATE"));
    }
}
