//! How much a layer may ask of this process.

use super::Error;

/// Bounds on untrusted layers. Each is named in the error raised when a layer passes it.
///
/// The defaults admit the largest images people publish and refuse archives whose only purpose is to exhaust the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes one layer may decompress to. 64 GiB: four times the largest public CUDA and model-serving images.
    pub layer_bytes: u64,
    /// Logical bytes of all files of all layers together, holes of sparse files included. 64 GiB.
    pub total_bytes: u64,
    /// Archive entries of all layers together, plus the parent directories they imply. 800,000: desktop and
    /// "everything" images hold up to half a million files, and each entry costs about 160 bytes of memory.
    pub entries: u64,
    /// Bytes of names, link targets, extended attributes and sparse maps of all entries together. 256 MiB.
    pub metadata_bytes: u64,
    /// Bytes of one extended header (pax, GNU long name). 1 MiB: a full set of extended attributes fits.
    pub pax_bytes: u64,
    /// Bytes of one path. 4096, Linux's `PATH_MAX`: a guest cannot name anything longer.
    pub path_bytes: u64,
    /// Directories one path may pass through. 256.
    pub path_depth: u64,
    /// Bytes of names and values of the extended attributes of one entry. 64 KiB, what Linux can list.
    pub xattr_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            layer_bytes: 64 << 30,
            total_bytes: 64 << 30,
            entries: 800_000,
            metadata_bytes: 256 << 20,
            pax_bytes: 1 << 20,
            path_bytes: 4096,
            path_depth: 256,
            xattr_bytes: 64 << 10,
        }
    }
}

impl Limits {
    /// Those that apply to one archive.
    pub(super) fn of_archive(&self) -> microagent_tar::Limits {
        microagent_tar::Limits {
            entries: self.entries,
            total_bytes: self.total_bytes,
            metadata_bytes: self.metadata_bytes,
            pax_bytes: self.pax_bytes,
            path_bytes: self.path_bytes,
            path_depth: self.path_depth,
        }
    }
}

/// Fails with the limit's name when `found` is more than `limit` allows.
pub(super) fn check(what: &'static str, found: u64, limit: u64) -> Result<(), Error> {
    if found > limit {
        return Err(Error::Limit { what, limit, found });
    }
    Ok(())
}

/// What the layers read so far have used of the limits that span a whole image.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    pub(super) entries: u64,
    pub(super) total_bytes: u64,
    pub(super) metadata_bytes: u64,
}

impl Usage {
    pub(super) fn add_entry(&mut self, limits: &Limits) -> Result<(), Error> {
        self.entries += 1;
        check("entries", self.entries, limits.entries)
    }

    pub(super) fn add_content(&mut self, bytes: u64, limits: &Limits) -> Result<(), Error> {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        check("total_bytes", self.total_bytes, limits.total_bytes)
    }

    pub(super) fn add_metadata(&mut self, bytes: usize, limits: &Limits) -> Result<(), Error> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes as u64);
        check("metadata_bytes", self.metadata_bytes, limits.metadata_bytes)
    }
}
