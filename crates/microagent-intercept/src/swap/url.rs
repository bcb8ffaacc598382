//! Where tokens are given out.

use hyper::http::Uri;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A URL that a client's secret may be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TokenUrl {
    text: String,
    /// Whether it is TLS.
    pub(crate) tls: bool,
    /// The host's name, or its address without brackets.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// The value of `Host`.
    pub(crate) authority: String,
    /// The path, with the query.
    pub(crate) path: String,
}

impl FromStr for TokenUrl {
    type Err = String;

    /// None of its errors repeats what it was given.
    fn from_str(text: &str) -> Result<TokenUrl, String> {
        let bad = |reason: &str| Err(format!("`token_url` {reason}"));
        if text.contains('#') {
            return bad("has a fragment, which is never sent");
        }
        let Ok(uri) = text.parse::<Uri>() else { return bad("is not a URL") };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return bad("is not a whole URL, as in `https://login.example.com/token`");
        };
        if authority.as_str().contains('@') {
            return bad("has a user in it, and credentials are given by reference");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let tls = match scheme {
            "https" => true,
            "http" if is_loopback => false,
            _ => return bad("is not `https`, which only one on this host need not be"),
        };
        let default = if tls { 443 } else { 80 };
        let port = match &authority.as_str()[authority.host().len()..] {
            "" => Some(default),
            rest => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        };
        let (Some(port), false) = (port, host.is_empty()) else {
            return bad("has no host or no port where there should be one");
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(TokenUrl { text: text.to_owned(), tls, host, port, authority: authority.to_string(), path })
    }
}

impl fmt::Display for TokenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for TokenUrl {
    type Error = String;

    fn try_from(text: String) -> Result<TokenUrl, String> {
        text.parse()
    }
}

impl From<TokenUrl> for String {
    fn from(url: TokenUrl) -> String {
        url.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_over_tls_or_stays_on_the_host() {
        let url: TokenUrl = "https://login.example.com/oauth/token?a=1".parse().unwrap();
        let parts = (url.tls, url.host.as_str(), url.port, url.path.as_str());
        assert_eq!(parts, (true, "login.example.com", 443, "/oauth/token?a=1"));
        let url: TokenUrl = "http://[::1]:8080".parse().unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port, url.path.as_str()), (false, "::1", 8080, "/"));
        for text in [
            "http://login.example.com/",
            "https://user:pass@login.example.com/",
            "https://login.example.com/#x",
            "https://",
            "/token",
            "login.example.com",
            "ftp://login.example.com/",
            "https://login.example.com:99999/",
            "https://login.example.com:/",
            "http://127.0.0.1.example.com/",
            "",
        ] {
            let error = text.parse::<TokenUrl>().unwrap_err();
            assert!(!error.contains("pass") && error.contains("token_url"), "{text}: {error}");
        }
    }
}
