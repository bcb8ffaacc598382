//! What may leave a machine: rules, the decisions that follow from them, and the record of those.
//!
//! Nothing here touches a network. The gateway asks, and does what it is told:
//!
//! 1. [`Policy::lookup`] when the guest asks for the address of a name,
//! 2. [`Policy::connect`] when it opens a connection, by the address and the names our own resolver gave that address for,
//! 3. [`Policy::opening`] when a connection to a listed name has said what it is about to speak.
//!
//! What came of it is an [`Event`] in a [`Log`], of which [`suggest`] makes the smallest [`PolicyFile`] that would have allowed it, and which
//! [`replay`] holds against another.
//!
//! ```
//! use microagent_egress::{Mode, Policy, Protocol, Reason, Rules, Verdict};
//!
//! let rules = Rules { mode: Mode::Strict, allow: vec!["api.example.com".parse()?], passthrough: vec![] };
//! let policy = Policy::new(rules, vec![])?;
//! let names = ["api.example.com".to_owned()];
//! assert!(policy.connect(Protocol::Tcp, "192.0.2.1:443".parse()?, &names).is_allowed());
//! assert_eq!(policy.connect(Protocol::Tcp, "192.0.2.2:443".parse()?, &[]), Verdict::Deny(Reason::NoName));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod event;
mod host;
mod inside;
mod learn;
mod log;
mod policy;
mod policy_file;
mod rules;

pub use error::Error;
pub use event::{Event, Happened, Protocol, Reason};
pub use host::{Host, is_name};
pub use inside::Inside;
pub use learn::{Outcome, replay, suggest};
pub use log::{Log, Summary};
pub use policy::{Handling, Opening, Policy, Route, Verdict};
pub use policy_file::PolicyFile;
pub use rules::{Mode, Rules};
