//! Who is trusted to say which server is which.

use crate::Error;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The authorities that servers are checked against.
#[derive(Clone, Debug)]
pub struct Roots(RootCertStore);

impl Roots {
    /// Those that this host trusts, by `SSL_CERT_FILE`, `SSL_CERT_DIR` or its own store. A host that has none, as a small container, gets
    /// Mozilla's, as they were when this was built.
    pub fn of_host() -> Roots {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Roots(store)
    }

    /// None: what is added is all that is trusted.
    pub fn none() -> Roots {
        Roots(RootCertStore::empty())
    }

    /// With those in `pem` as well.
    pub fn with_pem(mut self, pem: &[u8]) -> Result<Roots, Error> {
        let bad = |reason: String| Error::Roots { place: "the text that was given".to_owned(), reason };
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.0.add(certificate.map_err(|error| bad(error.to_string()))?).map_err(|error| bad(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(bad("it has no certificate".to_owned()));
        }
        Ok(self)
    }

    pub(crate) fn into_store(self) -> RootCertStore {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_are_trusted() {
        let pem = crate::Authority::new("w").unwrap().certificate_pem().to_owned();
        assert_eq!(Roots::none().with_pem(pem.as_bytes()).unwrap().0.len(), 1);
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Roots::none().with_pem(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_trusts_somebody() {
        assert!(!Roots::of_host().0.is_empty());
    }
}
