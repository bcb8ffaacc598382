//! Image references: the names people type, and what they mean.
//!
//! The grammar and the defaults are those of the container ecosystem: `alpine` means
//! `docker.io/library/alpine:latest`; the part before the first slash is a registry only if it could not be a
//! repository (it has a dot, a colon or a capital letter, or it is `localhost`); a tag, a digest or both may follow.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error};

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// Longest registry and repository together, from the distribution specification.
const MAX_NAME: usize = 255;
/// Longest tag, from the distribution specification.
const MAX_TAG: usize = 128;

/// The full name of an image: registry, repository, and a tag, a digest or both.
///
/// `Display` writes the canonical form, which parses back to the same value.
///
/// ```
/// use microagent_image::Reference;
///
/// let reference: Reference = "alpine".parse()?;
/// assert_eq!(reference.to_string(), "docker.io/library/alpine:latest");
/// assert_eq!(reference.familiar(), "alpine:latest");
/// assert!(!reference.is_pinned());
/// # Ok::<(), microagent_image::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry as written, with its port if one was given: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. `latest` if neither a tag nor a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned to one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether it names content that can never change: whether it has a digest.
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }

    /// The same repository, pinned to `digest` and without a tag.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The shortest form that means the same: without the default registry and its `library/` namespace.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else { return full };
        let short = rest.strip_prefix(OFFICIAL_NAMESPACE).unwrap_or(rest);
        // `docker.io/localhost/app` would be read as a registry without its first part.
        if short.parse::<Reference>().is_ok_and(|parsed| parsed == *self) { short.to_owned() } else { full }
    }

    /// The host name or address of the registry, without the port.
    pub(crate) fn host(&self) -> &str {
        match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.registry.split(':').next().unwrap_or(&self.registry),
        }
    }

    /// Whether the registry is on this machine, where plain HTTP reveals nothing to anyone.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub(crate) fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.as_deref().unwrap_or(DEFAULT_TAG).to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Reference, Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(input: &str) -> Result<Reference, Error> {
        parse(input).map_err(|Fault { at, reason }| Error::InvalidReference {
            text: crate::error::quoted(input),
            position: input[..at].chars().count() + 1,
            reason,
        })
    }
}

/// Why and at which byte an input is not a reference.
struct Fault {
    at: usize,
    reason: &'static str,
}

fn fault<T>(at: usize, reason: &'static str) -> Result<T, Fault> {
    Err(Fault { at, reason })
}

fn parse(input: &str) -> Result<Reference, Fault> {
    if input.is_empty() {
        return fault(0, "it is empty");
    }
    if let Some(at) = input.find("://") {
        return fault(at, "leave out the scheme: write `registry/repository:tag`");
    }
    let (rest, digest) = match input.split_once('@') {
        Some((rest, text)) => {
            let Ok(digest) = text.parse::<Digest>() else {
                return fault(rest.len() + 1, "a digest is `sha256:` and 64 lower-case hexadecimal digits");
            };
            (rest, Some(digest))
        }
        None => (input, None),
    };
    // A colon before the last slash belongs to the port of the registry.
    let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[path_start..].find(':') {
        Some(colon) => {
            let colon = path_start + colon;
            check_tag(&rest[colon + 1..], colon + 1)?;
            (&rest[..colon], Some(rest[colon + 1..].to_owned()))
        }
        None => (rest, None),
    };
    let (registry, repository) = split_registry(name)?;
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return fault(0, "the registry and repository are longer than 255 characters");
    }
    let tag = match (&tag, &digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        _ => tag,
    };
    Ok(Reference { registry, repository, tag, digest })
}

/// Splits `name` into registry and repository and applies the defaults of both.
fn split_registry(name: &str) -> Result<(String, String), Fault> {
    if let Some((first, path)) = name.split_once('/')
        && is_registry(first)
    {
        check_registry(first)?;
        check_repository(path, first.len() + 1)?;
        let docker_hub = matches!(first, "docker.io" | "index.docker.io");
        if !docker_hub {
            return Ok((first.to_owned(), path.to_owned()));
        }
        return Ok((DEFAULT_REGISTRY.to_owned(), official(path)));
    }
    check_repository(name, 0)?;
    Ok((DEFAULT_REGISTRY.to_owned(), official(name)))
}

fn official(path: &str) -> String {
    if path.contains('/') { path.to_owned() } else { format!("{OFFICIAL_NAMESPACE}{path}") }
}

fn is_registry(component: &str) -> bool {
    component == "localhost" || component.bytes().any(|byte| matches!(byte, b'.' | b':') || byte.is_ascii_uppercase())
}

fn check_registry(text: &str) -> Result<(), Fault> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return fault(text.len(), "the `]` that ends the IPv6 address of the registry is missing");
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return fault(1, "what stands in brackets is not an IPv6 address");
            }
            (None, if after.is_empty() { None } else { Some((after, address.len() + 2)) })
        }
        None => match text.find(':') {
            Some(colon) => (Some(&text[..colon]), Some((&text[colon..], colon))),
            None => (Some(text), None),
        },
    };
    if let Some((port, at)) = port {
        let digits = port.strip_prefix(':').unwrap_or("");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.parse::<u16>().is_err() {
            return fault(at, "the port of the registry is not a number from 0 to 65535");
        }
    }
    let mut at = 0;
    for label in host.into_iter().flat_map(|host| host.split('.')) {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if label.is_empty() || !inner || label.starts_with('-') || label.ends_with('-') {
            return fault(at, "the registry is not a host name");
        }
        at += label.len() + 1;
    }
    Ok(())
}

/// Checks that `path` is lower-case words joined by single separators (`.`, `_`, `__`, any run of `-`) and slashes.
fn check_repository(path: &str, offset: usize) -> Result<(), Fault> {
    let mut at = offset;
    for component in path.split('/') {
        if component.is_empty() {
            return fault(at, "a part of the repository is empty");
        }
        check_component(component, at)?;
        at += component.len() + 1;
    }
    Ok(())
}

fn check_component(component: &str, offset: usize) -> Result<(), Fault> {
    let mut run_start = 0;
    let separators =
        |run: &str| run.is_empty() || matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    for (at, character) in component.char_indices() {
        match character {
            'a'..='z' | '0'..='9' => {
                if !separators(&component[run_start..at]) || (run_start == 0 && at > 0) {
                    return fault(
                        offset + run_start,
                        "separators of a repository stand alone between letters or digits",
                    );
                }
                run_start = at + 1;
            }
            '.' | '_' | '-' => {}
            'A'..='Z' => return fault(offset + at, "a repository is lower case"),
            _ => return fault(offset + at, "a repository has only a-z, 0-9, `.`, `_`, `-` and `/`"),
        }
    }
    if run_start < component.len() {
        return fault(offset + run_start, "a repository ends in a letter or digit");
    }
    Ok(())
}

fn check_tag(tag: &str, offset: usize) -> Result<(), Fault> {
    if tag.is_empty() {
        return fault(offset, "the tag after `:` is empty");
    }
    if tag.len() > MAX_TAG {
        return fault(offset + floor_boundary(tag, MAX_TAG), "a tag has at most 128 characters");
    }
    for (at, character) in tag.char_indices() {
        let word = character.is_ascii_alphanumeric() || character == '_';
        if !word && (at == 0 || !matches!(character, '.' | '-')) {
            return fault(
                offset + at,
                "a tag has only letters, digits, `_`, `.` and `-`, and starts with none of the last two",
            );
        }
    }
    Ok(())
}

fn floor_boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
