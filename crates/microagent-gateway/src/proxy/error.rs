//! What can be wrong with proxies.

use microagent_protocol::{Fault, FaultKind};

/// The error of this module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A variable that names no proxy we can speak with. The value is not repeated: there may be a password in it.
    #[error("`{variable}` names no proxy: {reason}")]
    BadValue {
        /// The variable of the environment.
        variable: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It wants credentials, or others.
    #[error("the proxy wants other credentials")]
    Unauthorized,
    /// It will not connect.
    #[error("the proxy answered {status} {said}")]
    Refused {
        /// Status of the answer.
        status: u16,
        /// What was said about it.
        said: String,
    },
    /// It does not speak HTTP as it is to.
    #[error("the proxy's answer is not one of HTTP")]
    Malformed,
}

impl Fault for ProxyError {
    fn code(&self) -> &str {
        match self {
            ProxyError::BadValue { .. } => "proxy_invalid",
            ProxyError::Unauthorized => "proxy_unauthorized",
            ProxyError::Refused { .. } => "proxy_refused",
            ProxyError::Malformed => "proxy_malformed",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            ProxyError::BadValue { .. } => FaultKind::Usage,
            ProxyError::Refused { status: 502..=504, .. } => FaultKind::Transient,
            ProxyError::Unauthorized | ProxyError::Refused { .. } => FaultKind::Denied,
            ProxyError::Malformed => FaultKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ProxyError::BadValue { .. } => Some("set it as in `http://proxy.example.com:3128`, or unset it".to_owned()),
            ProxyError::Unauthorized => Some("set it as in `http://user:password@proxy.example.com:3128`".to_owned()),
            _ => None,
        }
    }
}
