//! Credentials in the place of placeholders.
//!
//! A [`SwapConfig`] is what a user says, with references alone, so it can be kept in a record. [`Swaps`] is what it comes to at a start:
//! it holds the values, and chooses by the name that the *connection* was allowed for, never by what a request says of itself.

mod config;
mod entry;
mod jwt;
mod live;
mod provider;
mod token;
mod url;

pub use config::SwapConfig;
pub use live::Swaps;
pub(crate) use live::{Live, Rendered};
pub(crate) use provider::names as provider_names;
pub(crate) use url::TokenUrl;

/// What every placeholder begins with.
pub(crate) const PLACEHOLDER_PREFIX: &str = "microagent-swap-";

/// What the guest holds in the place of the credential `name`.
pub(crate) fn placeholder(name: &str) -> String {
    format!("{PLACEHOLDER_PREFIX}{name}")
}
