//! Snapshots: what a workspace was at one moment, kept so that it can be returned to.
//!
//! ```text
//! workspaces/<name>/snapshots/<tag>/snapshot.json   what it consists of                       (Manifest)
//!                                   lease           held while it is made and while it is removed
//!                                   state, ...      small files, whose digests are in the manifest
//!                            /.new-<tag>/           becoming one
//!                            /.doomed-<tag>-<n>/    was one
//! layers/<id>                                       what is different in a big file           (LayerId)
//!       /.lock                                      shared by writers, exclusive to the sweeper
//! ```
//!
//! Memory and disks are big, and most of them is the same from one snapshot to the next, and in everything that was restored or forked from
//! one. They are kept as chains of *layers*: each holds the blocks in which a file was different from what the layers below give. A layer is
//! never changed, is named by its content, and goes when no manifest of any workspace names it.
//!
//! - [`SnapshotStore`] has the snapshots of one workspace: [`SnapshotStore::stage`] makes one, [`SnapshotStore::open`] gives one back.
//! - [`Layers`] gives files back from chains; [`Writing`] is the right to write new ones, which keeps the sweeper away.

mod files;
mod layer;
mod manifest;
mod staged;
mod store;
mod tag;
mod usage;

use std::fmt::Write as _;

pub use layer::{LayerId, Layers, MAX_CHAIN, Swept, Writing};
pub use manifest::{Base, DiskPart, Machine, Manifest, ProcessPart, SnapshotKind};
pub use staged::Staged;
pub use store::{Listed, Snapshot, SnapshotStore};
pub use tag::{SnapshotRef, Tag};
pub use usage::{References, Usage};

/// Bytes as text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes it all");
        text
    })
}

#[cfg(test)]
mod tests;
