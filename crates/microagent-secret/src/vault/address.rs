//! Where Vault is.

use super::VaultError;
use std::fmt::Write;
use std::net::IpAddr;
use ureq::http::Uri;

/// The address of a server that a token may be sent to.
pub(super) struct Address {
    base: String,
    loopback: bool,
}

impl Address {
    /// Reads what is in `VAULT_ADDR`.
    pub(super) fn parse(text: &str) -> Result<Address, VaultError> {
        let bad = |reason| VaultError::BadSetting { setting: "VAULT_ADDR", reason };
        let not_an_address = || bad("not the address of a server, as in `https://vault.example.com:8200`");
        // Whoever reads `http://127.0.0.1@evil.example` in a hurry takes it for an address of this host.
        if text.contains(['@', '?', '#']) {
            return Err(not_an_address());
        }
        let uri: Uri = text.parse().map_err(|_| not_an_address())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(not_an_address)?;
        let loopback = is_loopback(host);
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if loopback => {}
            Some("http") => return Err(VaultError::NotEncrypted),
            _ => return Err(not_an_address()),
        }
        Ok(Address { base: text.trim_end_matches('/').to_owned(), loopback })
    }

    /// Whether it is this host.
    pub(super) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The URL of `path` in its API.
    pub(super) fn url(&self, path: &str) -> String {
        let mut url = format!("{}/v1/", self.base);
        for byte in path.bytes() {
            // What no server reads in two ways: the unreserved ones of RFC 3986, 2.3, and what separates the parts.
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                url.push(char::from(byte));
            } else {
                let _ = write!(url, "%{byte:02X}");
            }
        }
        url
    }
}

/// Whether `host` is this one: an address, or the name that is never looked up elsewhere (RFC 6761, 6.3).
fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_to_everybody_and_in_the_clear_to_this_host() {
        for text in [
            "https://vault.example.com",
            "https://10.0.0.1:8200/",
            "http://127.0.0.1:8200",
            "http://127.9.9.9",
            "http://[::1]:8200",
            "http://localhost:8200",
            "HTTP://LOCALHOST",
        ] {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://vault.example.com",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "http://127.1",
            "http://[::2]",
        ] {
            assert!(matches!(Address::parse(text), Err(VaultError::NotEncrypted)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for text in [
            "hunter2",
            "vault.example.com:8200",
            "https://",
            "ftp://127.0.0.1/hunter2",
            "http://127.0.0.1@hunter2.example",
            "https://hunter2:hunter2@vault.example.com",
            "https://vault.example.com/?hunter2",
            "https://vault.example.com/#hunter2",
            "https://hunter 2",
            "unix:///hunter2",
            "",
        ] {
            let error = Address::parse(text).err().unwrap();
            assert!(matches!(error, VaultError::BadSetting { setting: "VAULT_ADDR", .. }), "{text}: {error}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn a_path_says_to_the_server_what_it_says_to_people() {
        let url = |base: &str, path: &str| Address::parse(base).unwrap().url(path);
        assert_eq!(url("https://v.example/", "kv/data/a"), "https://v.example/v1/kv/data/a");
        assert_eq!(url("https://v.example/vault", "kv/data/a"), "https://v.example/vault/v1/kv/data/a");
        assert_eq!(
            url("https://v.example", "kv/data/a b?c%2F#ä"),
            "https://v.example/v1/kv/data/a%20b%3Fc%252F%23%C3%A4"
        );
    }
}
