//! One credential, as it is written down.

use super::url::TokenUrl;
use crate::Error;
use hyper::http::HeaderName;
use microagent_egress::Host;
use microagent_secret::Reference;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What stands for the value in a format.
pub(super) const KEY: &str = "{key}";
/// Longest life of a token of our own making, or that a file may ask for: a day.
const MAX_LIFE: u64 = 24 * 3600;
/// Claims that are set for each token.
const OWN_CLAIMS: [&str; 2] = ["iat", "exp"];

/// Where the value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A reference.
    #[serde(rename = "static")]
    Static,
    /// A token for a client's credentials (RFC 6749, 4.4).
    #[serde(rename = "oauth2-cc")]
    ClientCredentials,
    /// A token that is signed here (RFC 7519), or one that is given for it (RFC 7523, 2.1).
    #[serde(rename = "jwt-bearer")]
    JwtBearer,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Static => "static",
            Kind::ClientCredentials => "oauth2-cc",
            Kind::JwtBearer => "jwt-bearer",
        })
    }
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3).
    #[default]
    RS256,
}

/// One credential. Keys of all kinds are here, so that one in the wrong place is told of by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    pub(super) domains: Vec<Host>,
    pub(super) header: String,
    pub(super) format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_ref: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_url: Option<TokenUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_id_ref: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_secret_ref: Option<Reference>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_response_field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signing_key_ref: Option<Reference>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) claims: BTreeMap<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) algorithm: Option<Algorithm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_ttl_seconds: Option<u64>,
}

impl Entry {
    /// Of `kind`, with nothing else said.
    pub(super) fn of_kind(kind: Kind) -> Entry {
        Entry {
            kind,
            domains: Vec::new(),
            header: String::new(),
            format: String::new(),
            key_ref: None,
            token_url: None,
            client_id_ref: None,
            client_secret_ref: None,
            scopes: Vec::new(),
            token_response_field: None,
            signing_key_ref: None,
            claims: BTreeMap::new(),
            algorithm: None,
            token_ttl_seconds: None,
        }
    }

    /// Fails where it cannot be meant.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        let bad = |reason: String| Err(Error::BadSwap { name: shown(name), reason });
        if !is_plain(name) {
            return bad("a name is at most 64 letters, digits, `-` and `_`".to_owned());
        }
        if self.domains.is_empty() {
            return bad("`domains` lists no host".to_owned());
        }
        if let Some(address) = self.domains.iter().find(|host| matches!(host, Host::Address(_))) {
            return bad(format!("`{address}` in `domains` is an address, and connections are looked into by name"));
        }
        self.header_name(name)?;
        let (before, after) = match self.format.split_once(KEY) {
            Some(around) if !around.1.contains(KEY) => around,
            _ => return bad(format!("`format` holds `{KEY}` once, as in `Bearer {KEY}`")),
        };
        if before.chars().chain(after.chars()).any(|c| !(' '..='~').contains(&c)) {
            return bad("`format` is printable ASCII".to_owned());
        }
        for (key, is_there, is_needed, kinds) in self.keys() {
            match (is_there, is_needed, kinds.contains(&self.kind)) {
                (true, _, false) => return bad(format!("`{key}` is not for `{}`", self.kind)),
                (false, true, true) => return bad(format!("`{}` needs `{key}`", self.kind)),
                _ => {}
            }
        }
        if self.kind == Kind::JwtBearer && self.token_url.is_none() && self.token_response_field.is_some() {
            return bad("`token_response_field` is for the answer of a `token_url`".to_owned());
        }
        if self.scopes.iter().any(|scope| scope.is_empty() || scope.contains(|c: char| !c.is_ascii_graphic())) {
            return bad("each of `scopes` is one word".to_owned());
        }
        if let Some(claim) = OWN_CLAIMS.iter().find(|claim| self.claims.contains_key(**claim)) {
            return bad(format!(
                "the claim `{claim}` is set for each token; `token_ttl_seconds` is how long one lives"
            ));
        }
        if self.token_ttl_seconds.is_some_and(|seconds| seconds > MAX_LIFE) {
            return bad(format!("`token_ttl_seconds` is at most {MAX_LIFE}"));
        }
        Ok(())
    }

    /// Each key that is of some kinds only: whether it is there, whether they need it, and which they are.
    fn keys(&self) -> [(&'static str, bool, bool, &'static [Kind]); 10] {
        use Kind::{ClientCredentials, JwtBearer, Static};
        let (client, jwt, both) = (&[ClientCredentials][..], &[JwtBearer][..], &[ClientCredentials, JwtBearer][..]);
        [
            ("key_ref", self.key_ref.is_some(), true, &[Static]),
            ("token_url", self.token_url.is_some(), self.kind == ClientCredentials, both),
            ("client_id_ref", self.client_id_ref.is_some(), true, client),
            ("client_secret_ref", self.client_secret_ref.is_some(), true, client),
            ("scopes", !self.scopes.is_empty(), false, client),
            ("token_response_field", self.token_response_field.is_some(), false, both),
            ("signing_key_ref", self.signing_key_ref.is_some(), true, jwt),
            ("claims", !self.claims.is_empty(), false, jwt),
            ("algorithm", self.algorithm.is_some(), false, jwt),
            ("token_ttl_seconds", self.token_ttl_seconds.is_some(), false, both),
        ]
    }

    /// The header that it sets.
    pub(super) fn header_name(&self, name: &str) -> Result<HeaderName, Error> {
        let bad = |reason: &str| Error::BadSwap { name: shown(name), reason: reason.to_owned() };
        let header: HeaderName = self.header.parse().map_err(|_| bad("`header` is not the name of a header"))?;
        let fixed = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"];
        if fixed.contains(&header.as_str()) || header.as_str().starts_with("proxy-") {
            return Err(bad("`header` is one that the connection needs for itself"));
        }
        Ok(header)
    }

    /// What it refers to.
    pub(super) fn references(&self) -> impl Iterator<Item = &Reference> {
        [&self.key_ref, &self.client_id_ref, &self.client_secret_ref, &self.signing_key_ref].into_iter().flatten()
    }

    /// The same, to be changed.
    pub(super) fn references_mut(&mut self) -> impl Iterator<Item = &mut Reference> {
        let all = [&mut self.key_ref, &mut self.client_id_ref, &mut self.client_secret_ref, &mut self.signing_key_ref];
        all.into_iter().flatten()
    }

    /// A host that both this and `other` set the same header for.
    pub(super) fn overlap(&self, other: &Entry) -> Option<&Host> {
        let same = self.header.eq_ignore_ascii_case(&other.header);
        let covers = |one: &Host, two: &Host| match two {
            Host::Exact(name) | Host::Suffix(name) => one.has_name(name),
            Host::Address(_) => false,
        };
        let meets = |host: &&Host| other.domains.iter().any(|theirs| covers(host, theirs) || covers(theirs, host));
        self.domains.iter().filter(|_| same).find(meets)
    }
}

/// Whether `name` can be part of a placeholder, and of a line of the record.
fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A name as messages have it: one that is none may be a value in the wrong place.
fn shown(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { "..".to_owned() }
}
