//! An image in the local store, and the base built from it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::rootfs::Summary;
use crate::{Digest, ImageConfig, Platform, Reference};

/// An image that is complete in the local store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// The name it was asked for by.
    pub reference: Reference,
    /// Digest of its manifest: the identity of its content.
    pub manifest_digest: Digest,
    /// Digest of its config.
    pub config_digest: Digest,
    /// What it is built for.
    pub platform: Platform,
    /// When it was built, as RFC 3339 text, if its builder says so.
    pub created: Option<String>,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Bytes of all layers as they were sent.
    pub fn compressed_size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add)
    }

    /// The reference that will always mean exactly this image.
    pub fn pinned(&self) -> Reference {
        self.reference.pinned(self.manifest_digest.clone())
    }

    /// The digests of the blobs it consists of.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        [&self.manifest_digest, &self.config_digest].into_iter().chain(self.layers.iter().map(|layer| &layer.digest))
    }
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Digest of the layer as it is sent and stored.
    pub digest: Digest,
    /// Bytes of the layer as it is sent and stored.
    pub size: u64,
    /// Media type.
    pub media_type: String,
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
}

/// The filesystem a base image or root filesystem is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseFormat {
    /// Read-only, compact, and the same bytes for the same layers.
    #[default]
    Erofs,
    /// For kernels without EROFS, and writable.
    Ext4,
}

impl BaseFormat {
    /// `erofs` or `ext4`.
    pub const fn name(self) -> &'static str {
        match self {
            BaseFormat::Erofs => "erofs",
            BaseFormat::Ext4 => "ext4",
        }
    }
}

/// The read-only root filesystem of an image, shared by every machine that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// The file, never to be written to.
    pub path: PathBuf,
    /// Its filesystem.
    pub format: BaseFormat,
    /// Its size in bytes.
    pub size: u64,
    /// What it was built from.
    pub record: BaseRecord,
}

impl BaseImage {
    pub(crate) fn new(directory: &Path, record: BaseRecord) -> BaseImage {
        BaseImage { path: directory.join(BASE_FILE), format: record.format, size: record.size, record }
    }
}

/// Name of the base image in its directory.
pub(crate) const BASE_FILE: &str = "base.erofs";
/// Name of the record beside it.
pub(crate) const BASE_RECORD: &str = "base.json";
/// Version of [`BaseRecord`] that is read and written. A base with another version is built again.
pub(crate) const BASE_VERSION: u32 = 1;

/// What is known of a base image: `base.json` beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRecord {
    /// Version of this record.
    pub version: u32,
    /// Digest of the manifest of the image.
    pub manifest_digest: Digest,
    /// Digest of the config of the image.
    pub config_digest: Digest,
    /// What the image is built for.
    pub platform: Platform,
    /// When the image was built, if its builder says so.
    pub created: Option<String>,
    /// How the image wants to be run.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// Filesystem of the base.
    pub format: BaseFormat,
    /// Bytes of the base.
    pub size: u64,
    /// Digest of the base.
    pub digest: Digest,
    /// What is in it.
    pub contents: Contents,
}

/// What is in a base image: the part of [`Summary`] worth keeping. A type of its own, because a record on disk must not
/// change whenever the writer learns to count something new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Regular files, each once however many names it has.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Names beyond the first of files that have several.
    pub hard_links: u64,
    /// Bytes of all regular files, holes included.
    pub bytes: u64,
}

impl From<&Summary> for Contents {
    fn from(summary: &Summary) -> Contents {
        Contents {
            files: summary.files,
            directories: summary.directories,
            symlinks: summary.symlinks,
            hard_links: summary.hard_links,
            bytes: summary.bytes,
        }
    }
}

impl BaseRecord {
    /// The image this is the base of, under the name `reference`.
    pub(crate) fn image(&self, reference: Reference) -> Image {
        Image {
            reference,
            manifest_digest: self.manifest_digest.clone(),
            config_digest: self.config_digest.clone(),
            platform: self.platform,
            created: self.created.clone(),
            config: self.config.clone(),
            layers: self.layers.clone(),
        }
    }
}
