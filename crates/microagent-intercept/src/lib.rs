//! Looks into the connections of a machine to the hosts it may reach, and puts credentials in the place of placeholders.
//!
//! The machine trusts the [`Authority`] that was made for it, so TLS to an allowlisted host can end here and begin anew. What is inside
//! (HTTP/1.1, HTTP/2, WebSocket) is passed on request by request:
//!
//! 1. The server is spoken to first, its certificate checked against the host's [`Roots`], and the guest is answered with the protocol
//!    that the server chose. Nothing is translated, so whatever works over HTTP/2 keeps working.
//! 2. Every request has to be for the host that the connection was allowed for. Who is allowed one name cannot reach another behind the
//!    same address.
//! 3. Where [`Swaps`] has a credential for that host, the header is set to the live value. The guest holds a placeholder, and one that is
//!    on its way to anywhere else is stopped.
//!
//! Bodies are streamed and never held. In those of requests placeholders are looked for; those of answers are passed on as they are, so a
//! server that repeats a credential in one tells it to the guest. A redirect is the guest's to follow: to another host, it is another
//! connection, and has no credential.
//!
//! It knows nothing of packets, names or rules: whoever hands over a [`Connection`] has decided on it.
//!
//! ```
//! use microagent_intercept::{Authority, SwapConfig};
//!
//! let authority = Authority::new("demo")?;
//! assert!(authority.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
//! let config = SwapConfig::provider("openai=env:MY_KEY")?;
//! assert_eq!(config.environment(), [("OPENAI_API_KEY".to_owned(), "microagent-swap-openai".to_owned())]);
//! # Ok::<(), microagent_intercept::Error>(())
//! ```

mod authority;
mod connection;
mod denial;
mod error;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod headers;
mod interceptor;
mod limits;
mod request;
mod roots;
mod scan;
mod swap;
mod target;
mod upgrade;
mod upstream;

pub use authority::{Authority, KeptAuthority};
pub use connection::Connection;
pub use error::Error;
pub use interceptor::{Connect, Interceptor, Options};
pub use roots::Roots;
pub use swap::{SwapConfig, Swaps};
