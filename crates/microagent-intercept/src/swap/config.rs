//! What a user says about credentials.

use super::entry::{Entry, Kind};
use super::live::Swaps;
use super::placeholder;
use super::provider::{PROVIDERS, Provider};
use crate::Error;
use microagent_egress::Host;
use microagent_secret::{Reference, Sources};
use serde::{Deserialize, Serialize};
use serde_saphyr::Error as YamlError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of a file.
const MAX_BYTES: u64 = 1 << 20;

/// Which credentials take the place of placeholders, and where. It holds references, never values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapConfig {
    #[serde(default)]
    swaps: BTreeMap<String, Entry>,
}

impl SwapConfig {
    /// A known service: `PROVIDER`, whose key is then in the environment as its own clients have it, or `PROVIDER=REFERENCE`.
    pub fn provider(text: &str) -> Result<SwapConfig, Error> {
        let (provider, entry) = Provider::read(text)?;
        Ok(SwapConfig { swaps: BTreeMap::from([(provider.name.to_owned(), entry)]) })
    }

    /// Reads the YAML file `path`.
    pub fn load(path: &Path) -> Result<SwapConfig, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let bad = |reason: String| Error::BadFile { path: path.to_owned(), reason };
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text)).map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(bad("it is larger than 1 MiB".to_owned()));
        }
        let config = SwapConfig::parse(&text).map_err(bad)?;
        config.check()?;
        Ok(config)
    }

    fn parse(text: &str) -> Result<SwapConfig, String> {
        // A snippet of the file would show what was pasted where a reference belongs.
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        match serde_saphyr::from_str_with_options::<Option<SwapConfig>>(text, options) {
            Ok(config) => Ok(config.unwrap_or_default()),
            Err(error) => {
                let place = error.location().map_or(String::new(), |place| format!("line {}: ", place.line()));
                Err(place + &explain(&error))
            }
        }
    }

    /// Adds those of `other`. Fails where one name, or one header of one host, would have two.
    pub fn merge(&mut self, other: SwapConfig) -> Result<(), Error> {
        let mut merged = self.clone();
        for (name, entry) in other.swaps {
            if merged.swaps.contains_key(&name) {
                return Err(Error::BadSwap { name, reason: "it is there twice".to_owned() });
            }
            merged.swaps.insert(name, entry);
        }
        merged.check()?;
        *self = merged;
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.swaps.is_empty()
    }

    /// What they are called.
    pub fn names(&self) -> Vec<String> {
        self.swaps.keys().cloned().collect()
    }

    /// The hosts that credentials are for: they have to be allowed, and looked into.
    pub fn hosts(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = self.swaps.values().flat_map(|entry| entry.domains.iter().cloned()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// What is referred to.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.swaps.values().flat_map(Entry::references)
    }

    /// The same, each with the name of its credential.
    pub fn named_references(&self) -> impl Iterator<Item = (&str, &Reference)> {
        self.swaps.iter().flat_map(|(name, entry)| entry.references().map(move |reference| (name.as_str(), reference)))
    }

    /// What is referred to, to be changed.
    pub fn references_mut(&mut self) -> impl Iterator<Item = &mut Reference> {
        self.swaps.values_mut().flat_map(Entry::references_mut)
    }

    /// The variables that clients of known services read, with what the guest is to have in them. Without one they do not start.
    pub fn environment(&self) -> Vec<(String, String)> {
        let known = |(name, entry): (&String, &Entry)| {
            let provider = PROVIDERS.iter().find(|provider| provider.name == name && provider.is(entry))?;
            Some((provider.variable.to_owned(), placeholder(name)))
        };
        self.swaps.iter().filter_map(known).collect()
    }

    /// Gets the values. Fails where one cannot be had: a machine without its credentials is not started.
    pub fn resolve(&self, sources: &Sources) -> Result<Swaps, Error> {
        self.check()?;
        Swaps::new(&self.swaps, sources)
    }

    fn check(&self) -> Result<(), Error> {
        for (name, entry) in &self.swaps {
            entry.check(name)?;
        }
        for (first, entry) in &self.swaps {
            for (second, other) in self.swaps.iter().filter(|(second, _)| *second > first) {
                if let Some(host) = entry.overlap(other) {
                    let (first, second) = (first.clone(), second.clone());
                    return Err(Error::TwoSwaps {
                        first,
                        second,
                        header: entry.header.to_ascii_lowercase(),
                        host: host.to_string(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Kind {
    const NAMES: &str = "`static`, `oauth2-cc` or `jwt-bearer`";
}

/// What is wrong, without any value of the file: it may be a secret in the wrong place.
fn explain(error: &YamlError) -> String {
    match error.without_snippet() {
        YamlError::AliasError { error, .. } => explain(error),
        YamlError::SerdeUnknownField { expected, .. } => {
            format!("there is a key that is unknown; the keys here are `{}`", expected.join("`, `"))
        }
        YamlError::SerdeUnknownVariant { expected, .. } if expected.contains(&"static") => {
            format!("`type` is {}", Kind::NAMES)
        }
        YamlError::SerdeUnknownVariant { expected, .. } => format!("it can be `{}`", expected.join("`, `")),
        YamlError::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        YamlError::DuplicateMappingKey { .. } => "a key is there twice".to_owned(),
        YamlError::MultipleDocuments { .. } => "it is more than one document".to_owned(),
        YamlError::SerdeInvalidType { expected, .. } | YamlError::SerdeInvalidValue { expected, .. } => {
            format!("{expected} is expected there")
        }
        // Ours: see `TokenUrl`, `Reference` and `Host`.
        YamlError::Message { msg, .. } => msg.clone(),
        _ => "it is not YAML, or not of the form that is expected there".to_owned(),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
