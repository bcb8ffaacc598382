//! What tests of several crates need: real registries on loopback, and images made by tools other than ours.
//!
//! Everything listens on an ephemeral port of `127.0.0.1`, keeps its files in a temporary directory, and is gone when its
//! value is dropped. A tool that is missing fails the test that needs it and says which package has it.
//!
//! | type | what it is |
//! |---|---|
//! | [`Registry`] | Debian's `docker-registry`: plain, behind TLS, with a password, with a token server, or read-only |
//! | [`Layout`] | an OCI layout whose layers are made of directories by `umoci` |
//! | [`Cutter`] | a proxy in front of a registry that counts requests and breaks connections |
//! | [`TarWriter`] | tar archives, honest and otherwise |
//! | [`Internet`] | a host and all kinds of servers, in network namespaces |
//!
//! ```no_run
//! use microagent_testing::{Layout, Registry};
//!
//! let registry = Registry::plain();
//! let layout = Layout::new();
//! let files = tempfile::tempdir().unwrap();
//! std::fs::write(files.path().join("hello"), "hello").unwrap();
//! layout.image("v1").layer(files.path(), "/").configure(&["--config.cmd", "/hello"]);
//! layout.push("v1", &registry, "demo:v1");
//! println!("pull {}", registry.reference("demo:v1"));
//! ```

mod cutter;
mod internet;
mod layout;
mod registry;
mod tar;
mod token;
mod tool;

pub use cutter::Cutter;
pub use internet::{Answer, Internet, Kind, Namespace, NeedsRoot, Place, Seen, pattern};
pub use layout::{Layout, LayoutImage};
pub use registry::{PASSWORD, Registry, USER, push_index};
pub use tar::{Item, TarWriter, pax_record};
pub use tool::{run, tool};
