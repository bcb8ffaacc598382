//! How much an archive may ask of whoever reads it.

use crate::ArchiveError;

/// Bounds on archives. Each is named in the error raised when an archive passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries that are unpacked.
    pub entries: u64,
    /// Bytes of all files that are unpacked together, and of any one sparse file, its holes included.
    pub total_bytes: u64,
    /// Bytes of names and attributes of directories, which are remembered until the end of the archive.
    pub metadata_bytes: u64,
    /// Bytes of one extended header (pax, GNU long name).
    pub pax_bytes: u64,
    /// Bytes of one path.
    pub path_bytes: u64,
    /// Directories one path may pass through.
    pub path_depth: u64,
}

impl Default for Limits {
    /// What a tree of files may come to: 64 GiB, 4 million entries, paths of 4096 bytes (`PATH_MAX`) through 256 directories, 1 MiB for a
    /// set of extended attributes.
    fn default() -> Self {
        Limits {
            entries: 4_000_000,
            total_bytes: 64 << 30,
            metadata_bytes: 64 << 20,
            pax_bytes: 1 << 20,
            path_bytes: 4096,
            path_depth: 256,
        }
    }
}

/// Fails with the limit's name when `found` is more than `limit` allows.
pub(crate) fn check(what: &'static str, found: u64, limit: u64) -> Result<(), ArchiveError> {
    if found > limit {
        return Err(ArchiveError::Limit { what, limit, found });
    }
    Ok(())
}
