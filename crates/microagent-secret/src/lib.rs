//! References into values, and a type for the values that cannot be printed.
//!
//! It is a conduit, not a store: nothing is written, and nothing is kept longer than whoever asked for it keeps it. A
//! [`Reference`] says where a value is and is no secret itself; it may stand in files, records and messages. A
//! [`Secret`] is the value: `Debug` hides it, and neither `Display` nor `Serialize` exist. Between the two are
//! [`Sources`]:
//!
//! | reference | the value is |
//! |---|---|
//! | `env:VARIABLE` | of a variable of the environment |
//! | `file:PATH` | the content of a file, without one line end |
//! | `dotenv:PATH#KEY` | a line `KEY=value` of a file (see [`dotenv`]) |
//! | `vault:MOUNT/data/PATH#FIELD` | a field in version 2 of Vault's key-value engine |
//! | `helper:REF` | what the program in `MICROAGENT_SECRET_HELPER` prints for `REF` |
//!
//! People paste values where references belong. So no error of parsing repeats what it was given, but for a scheme that
//! is known and the name in front of a reference. What reads YAML has to see to it that the lines are not shown either
//! (`with_snippet: false`).
//!
//! ```
//! use microagent_secret::{Binding, Sources};
//!
//! let sources = Sources::of_variables([("GH", "s3cret")]);
//! let bindings: Vec<Binding> = vec!["GITHUB_TOKEN=env:GH".parse()?];
//! let secrets = sources.resolve_all(&bindings)?;
//! let token = &secrets[&"GITHUB_TOKEN".parse()?];
//! assert_eq!(token.expose(), b"s3cret");
//! assert_eq!(format!("{token:?}"), "Secret(..)");
//! # Ok::<(), microagent_secret::Error>(())
//! ```

mod binding;
pub mod dotenv;
mod environment;
mod error;
mod helper;
mod name;
mod read;
mod reference;
mod secret;
mod sources;
mod text;
mod vault;

pub use binding::Binding;
pub use error::Error;
pub use helper::HelperError;
pub use name::Name;
pub use reference::Reference;
pub use secret::{MAX_BYTES, Secret};
pub use sources::{DEADLINE, Sources};
pub use vault::VaultError;
