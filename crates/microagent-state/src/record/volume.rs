//! What a volume is.

use super::Record;
use crate::VolumeName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `volume.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRecord {
    /// Name of the volume.
    pub name: VolumeName,
    /// Size of its disk in MiB. The file system on it may still be smaller: the guest that next writes to it makes it grow.
    pub size_mib: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Record for VolumeRecord {
    const VERSION: u32 = 1;
    const FILE: &'static str = "volume.json";
}
