//! Credentials as they are used.

use super::entry::{Entry, KEY, Kind};
use super::placeholder;
use super::token::{Grant, Tokens};
use crate::Error;
use crate::upstream::TokenClient;
use hyper::http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use microagent_egress::Host;
use microagent_secret::{Reference, Secret, Sources};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Shortest value that is looked for in answers: a shorter one would be found in what is none.
const MIN_ECHO: usize = 8;
/// Longest value of a header.
const MAX_VALUE: usize = 32 << 10;

/// The credentials of one machine, with their values.
#[derive(Debug, Default)]
pub struct Swaps {
    live: Vec<Arc<Live>>,
    references: Vec<Reference>,
}

impl Swaps {
    /// Without any.
    pub fn none() -> Swaps {
        Swaps::default()
    }

    pub(super) fn new(entries: &BTreeMap<String, Entry>, sources: &Sources) -> Result<Swaps, Error> {
        let live = entries.iter().map(|(name, entry)| Live::new(name, entry, sources).map(Arc::new));
        let references = entries.values().flat_map(Entry::references).cloned().collect();
        Ok(Swaps { live: live.collect::<Result<_, _>>()?, references })
    }

    /// The hosts that they are for: these have to be allowed, and looked into.
    pub fn hosts(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = self.live.iter().flat_map(|live| live.domains.iter().cloned()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Where the values came from.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// What the guest holds in the place of the credential `name`.
    pub fn placeholder(name: &str) -> String {
        placeholder(name)
    }

    /// Those for the host `name`.
    pub(crate) fn of(&self, name: &str) -> Vec<Arc<Live>> {
        self.live.iter().filter(|live| live.domains.iter().any(|host| host.has_name(name))).cloned().collect()
    }
}

/// One credential.
pub(crate) struct Live {
    pub(crate) name: String,
    domains: Vec<Host>,
    header: HeaderName,
    before: String,
    after: String,
    value: Value,
}

enum Value {
    Static(Arc<Secret>),
    Token(Box<Tokens>),
}

/// One credential as it goes into one request.
pub(crate) struct Rendered {
    name: HeaderName,
    value: HeaderValue,
    key: Arc<Secret>,
    placeholder: String,
}

impl Live {
    fn new(name: &str, entry: &Entry, sources: &Sources) -> Result<Live, Error> {
        let (before, after) = entry.format.split_once(KEY).unwrap_or_default();
        let value = match (&entry.key_ref, entry.kind) {
            (Some(reference), Kind::Static) => Value::Static(Arc::new(resolve(name, reference, sources)?)),
            _ => Value::Token(Box::new(Tokens::new(Grant::new(name, entry, sources)?))),
        };
        let live = Live {
            name: name.to_owned(),
            domains: entry.domains.clone(),
            header: entry.header_name(name)?,
            before: before.to_owned(),
            after: after.to_owned(),
            value,
        };
        if let (Value::Static(key), Some(reference)) = (&live.value, &entry.key_ref) {
            let bad =
                |reason: String| Error::BadValue { name: name.to_owned(), reference: reference.to_string(), reason };
            live.header_value(key).map_err(bad)?;
        }
        Ok(live)
    }

    /// Its value for a request now, which a token may have to be got for. Fails with why there is none, for people.
    pub(crate) async fn render(&self, client: &TokenClient) -> Result<Rendered, String> {
        let key = match &self.value {
            Value::Static(key) => Arc::clone(key),
            Value::Token(tokens) => tokens.get(client).await?,
        };
        let value = self.header_value(&key)?;
        Ok(Rendered { name: self.header.clone(), value, key, placeholder: placeholder(&self.name) })
    }

    /// The server did not take `rendered`: a token that was kept is not used again.
    pub(crate) async fn reject(&self, rendered: &Rendered) {
        if let Value::Token(tokens) = &self.value {
            tokens.reject(&rendered.key).await;
        }
    }

    fn header_value(&self, key: &Secret) -> Result<HeaderValue, String> {
        let bytes = [self.before.as_bytes(), key.expose(), self.after.as_bytes()].concat();
        if bytes.len() > MAX_VALUE {
            return Err("it is too long for a header".to_owned());
        }
        if key.expose().iter().any(|byte| !(b' '..=b'~').contains(byte)) {
            return Err("it is not one line of printable ASCII".to_owned());
        }
        let mut value = HeaderValue::from_bytes(&bytes).map_err(|_| "it cannot be in a header".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("name", &self.name).field("domains", &self.domains).finish_non_exhaustive()
    }
}

impl Rendered {
    /// The name of the credential.
    pub(crate) fn credential(&self) -> &str {
        &self.placeholder[super::PLACEHOLDER_PREFIX.len()..]
    }

    /// Sets its header, whatever the guest sent in it.
    pub(crate) fn set(&self, fields: &mut HeaderMap) {
        fields.insert(self.name.clone(), self.value.clone());
    }

    /// Puts the placeholder back where an answer repeats the value.
    pub(crate) fn hide(&self, fields: &mut HeaderMap) {
        let key = self.key.expose();
        if key.len() < MIN_ECHO {
            return;
        }
        for value in fields.values_mut() {
            if memmem::find(value.as_bytes(), key).is_some()
                && let Ok(hidden) =
                    HeaderValue::from_bytes(&replaced(value.as_bytes(), key, self.placeholder.as_bytes()))
            {
                *value = hidden;
            }
        }
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut all, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = memmem::find(rest, from) {
        all.extend_from_slice(&rest[..at]);
        all.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    all.extend_from_slice(rest);
    all
}

/// What `reference` of the swap `name` holds.
pub(super) fn resolve(name: &str, reference: &Reference, sources: &Sources) -> Result<Secret, Error> {
    let failed = |error| {
        let (name, reference) = (name.to_owned(), reference.to_string());
        Error::Unresolved { name, reference, source: Box::new(error) }
    };
    sources.resolve(reference).map_err(failed)
}
