//! What went wrong on the way to a registry, told apart by cause.
//!
//! An HTTP client reports every failure as one type. The cause is somewhere in its chain: an error of the resolver, of
//! TLS, or of the connection.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Error;

/// Resolves names through the system, and marks its failures so that they can be recognised.
pub(super) struct Resolver;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ResolveFailure(io::Error);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let addresses = tokio::net::lookup_host((host, 0)).await.map_err(ResolveFailure)?;
            let addresses: Vec<SocketAddr> = addresses.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The typed error for a request to `host` that failed while `action`.
pub(super) fn classify(error: reqwest::Error, host: &str, action: &str) -> Error {
    // The URL may hold a signature that works like a password.
    let error = error.without_url();
    let host = host.to_owned();
    if let Some(ResolveFailure(source)) = find::<ResolveFailure>(&error) {
        return Error::NameNotResolved { host, source: io::Error::new(source.kind(), source.to_string()) };
    }
    if let Some(source) = find::<rustls::Error>(&error) {
        return Error::Tls { host, source: source.clone().into() };
    }
    if error.is_redirect() {
        return Error::RegistryProtocol { host, action: action.to_owned(), reason: root_cause(&error) };
    }
    Error::Unreachable { host, action: action.to_owned(), source: root_cause(&error).into() }
}

/// Whether the other side answered the TLS handshake with something that is not TLS.
pub(super) fn is_not_tls(error: &reqwest::Error) -> bool {
    let closed = || {
        let source = find::<io::Error>(error);
        error.is_connect() && source.is_some_and(|source| source.kind() == io::ErrorKind::UnexpectedEof)
    };
    matches!(find::<rustls::Error>(error), Some(rustls::Error::InvalidMessage(_))) || closed()
}

/// The first error of type `T` in the chain, looking also inside `io::Error`, which hides what it wraps.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        current = match wrapped {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
