//! What snapshots take on the disk.

use serde::Serialize;

/// What a snapshot takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Its own files, and the layers that no other snapshot needs: what deleting it frees.
    pub bytes: u64,
    /// The layers that other snapshots need, too.
    pub shared_bytes: u64,
}
