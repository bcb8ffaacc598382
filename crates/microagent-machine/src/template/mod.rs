//! Templates: guests frozen while they wait for their boot request, from which later machines are restored instead of booted.
//!
//! A guest in that state is nobody's: no disk is attached to it and nothing of any run is in it. What it depends on is its [`Shape`], and
//! the shape's digest names its directory in the [`TemplateStore`]:
//!
//! ```text
//! templates/
//!   <key>/record.json    what it is, and what its files must look like
//!         state          the frozen machine, all but its RAM
//!         memory         its RAM, where that is not on tmpfs
//!   <key>.lock           held by whoever makes or removes it
//!   .new-<key>/          one that is being made
//! /dev/shm/microagent-<uid>/
//!   <key>-<random>       RAM, mapped privately by every machine restored from it
//!   <key>-<random>.json  whose it is; locked until the record refers to it
//! ```
//!
//! [`TemplateStore::find`] opens what there is and trusts none of it unseen; everything is used by descriptor from there on, so a template
//! that is removed meanwhile stays whole for who has found it. [`TemplateStore::claim`] begins a new one; [`Making::publish`] makes it
//! appear, at once and whole. Nothing ever waits for a lock: who does not get it does without.

mod error;
mod evict;
mod lock;
mod making;
mod memory;
mod record;
mod shape;
mod store;
mod summary;

pub use error::Error;
pub use making::Making;
pub(crate) use memory::copy_sparse;
pub use shape::{Disk, Hardware, Shape};
pub use store::{Claim, Found, Template, TemplateStore};
pub use summary::{MemoryPlace, TemplatePrune, TemplateSummary, TemplatesPruned};

type Result<T, E = Error> = std::result::Result<T, E>;
