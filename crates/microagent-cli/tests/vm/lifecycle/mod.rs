//! The life of workspaces: `docs/lifecycle.md` performed.

mod crash;
pub(crate) mod machine;
mod model;
mod races;
mod table;
