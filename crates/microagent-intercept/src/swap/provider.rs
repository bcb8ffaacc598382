//! Services whose credentials are known how to send.

use super::entry::{Entry, Kind};
use crate::Error;
use microagent_egress::Host;
use microagent_secret::Reference;

/// A service, as its documentation has it: one host, one header.
pub(super) struct Provider {
    pub(super) name: &'static str,
    host: &'static str,
    header: &'static str,
    format: &'static str,
    /// The variable that its own client libraries read.
    pub(super) variable: &'static str,
}

const BEARER: &str = "Bearer {key}";

pub(super) const PROVIDERS: [Provider; 6] = [
    Provider {
        name: "openai",
        host: "api.openai.com",
        header: "authorization",
        format: BEARER,
        variable: "OPENAI_API_KEY",
    },
    Provider {
        name: "anthropic",
        host: "api.anthropic.com",
        header: "x-api-key",
        format: "{key}",
        variable: "ANTHROPIC_API_KEY",
    },
    Provider {
        name: "gemini",
        host: "generativelanguage.googleapis.com",
        header: "x-goog-api-key",
        format: "{key}",
        variable: "GEMINI_API_KEY",
    },
    Provider { name: "groq", host: "api.groq.com", header: "authorization", format: BEARER, variable: "GROQ_API_KEY" },
    Provider {
        name: "openrouter",
        host: "openrouter.ai",
        header: "authorization",
        format: BEARER,
        variable: "OPENROUTER_API_KEY",
    },
    Provider {
        name: "deepseek",
        host: "api.deepseek.com",
        header: "authorization",
        format: BEARER,
        variable: "DEEPSEEK_API_KEY",
    },
];

/// Their names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|provider| provider.name)
}

impl Provider {
    /// Reads `PROVIDER` or `PROVIDER=REFERENCE`.
    pub(super) fn read(text: &str) -> Result<(&'static Provider, Entry), Error> {
        let (name, reference) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
        // What stands there may be a key that was pasted, so it is not repeated.
        let provider = PROVIDERS.iter().find(|provider| provider.name == name).ok_or(Error::UnknownProvider)?;
        let own = format!("env:{}", provider.variable);
        let bad = |error| Error::BadReference { name: provider.name.to_owned(), source: Box::new(error) };
        let reference: Reference = reference.unwrap_or(&own).parse().map_err(bad)?;
        Ok((provider, provider.entry(reference)))
    }

    fn entry(&self, reference: Reference) -> Entry {
        Entry {
            domains: vec![Host::Exact(self.host.to_owned())],
            header: self.header.to_owned(),
            format: self.format.to_owned(),
            key_ref: Some(reference),
            ..Entry::of_kind(Kind::Static)
        }
    }

    /// Whether `entry` is of this one: its own, not one of the same name for another host.
    pub(super) fn is(&self, entry: &Entry) -> bool {
        entry.domains == [Host::Exact(self.host.to_owned())]
    }
}
