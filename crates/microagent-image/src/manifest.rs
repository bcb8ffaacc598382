//! Manifests and indexes: what a registry says an image consists of.
//!
//! Both the OCI and the Docker media types are read. Everything here is untrusted: documents are capped at
//! [`MAX_DOCUMENT`] before they are parsed, digests are validated by their type, and a document that could be read both
//! as an index and as a manifest is refused, because two programs might then see two different images under one digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Platform};

/// Largest manifest, index or image config that is accepted; registries limit manifests to the same 4 MiB.
pub const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;
/// Most layers an image may have. Docker stops at 127; the margin is for other builders.
pub const MAX_LAYERS: usize = 512;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

const CONFIG_TYPES: [&str; 2] = [OCI_CONFIG, "application/vnd.docker.container.image.v1+json"];
/// How a layer is compressed is read from its first bytes, so the types only tell layers from other content.
const LAYER_TYPES: [&str; 9] = [
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// A pointer to content: what it is, its digest and its exact size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    /// Media type.
    #[serde(rename = "mediaType")]
    pub(crate) media_type: String,
    /// Digest of the content.
    pub(crate) digest: Digest,
    /// Size of the content in bytes; more is never read.
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<DescriptorPlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: None }
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn is_image_or_index(&self) -> bool {
        [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].contains(&self.media_type.as_str())
    }
}

/// The platform an entry of an index is for, as free text because an index lists platforms we never run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DescriptorPlatform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// One image: its config and its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    #[serde(rename = "schemaVersion")]
    pub(crate) schema_version: u32,
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    /// Written and never read: those of other builders mean nothing here, and may be of any shape.
    #[serde(default, skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// A manifest for an image that came without one.
    pub(crate) fn synthesise(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest { schema_version: 2, media_type: Some(OCI_MANIFEST.to_owned()), config, layers, annotations: None }
    }

    /// The document to store; its digest is the identity of the image.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("strings and numbers always serialise: {error}"))
    }

    /// Bytes of all layers as they are stored and sent.
    pub(crate) fn layers_size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add)
    }

    fn check(&self, what: &str) -> Result<(), Error> {
        if self.layers.len() > MAX_LAYERS {
            let found = self.layers.len() as u64;
            return Err(Error::LimitExceeded { what: format!("layers of {what}"), limit: MAX_LAYERS as u64, found });
        }
        let unsupported = |kind: &str, media_type: &str| Error::UnsupportedMediaType {
            what: format!("the {kind} of {what}"),
            media_type: crate::error::quoted(media_type),
        };
        if !CONFIG_TYPES.contains(&self.config.media_type.as_str()) {
            return Err(unsupported("config", &self.config.media_type));
        }
        match self.layers.iter().find(|layer| !LAYER_TYPES.contains(&layer.media_type.as_str())) {
            Some(layer) => Err(unsupported("layer", &layer.media_type)),
            None => Ok(()),
        }
    }
}

/// Several images under one name, one for each platform.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    /// The entry to run on `platform`: the baseline variant if several variants match, else the first.
    pub(crate) fn choose(&self, platform: Platform, what: &str) -> Result<&Descriptor, Error> {
        let architecture = platform.architecture;
        let matching = || {
            self.manifests.iter().filter(|entry| entry.is_image_or_index()).filter(move |entry| {
                entry.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture.name())
            })
        };
        let baseline = matching().find(|entry| {
            let variant = entry.platform.as_ref().and_then(|platform| platform.variant.as_deref());
            variant.is_none_or(|variant| architecture.baseline_variants().contains(&variant))
        });
        let unlabelled = || match self.manifests.as_slice() {
            [only] if only.platform.is_none() && only.is_image_or_index() => Some(only),
            _ => None,
        };
        baseline.or_else(|| matching().next()).or_else(unlabelled).ok_or_else(|| Error::NoMatchingPlatform {
            what: what.to_owned(),
            wanted: platform.to_string(),
            available: self.available(),
        })
    }

    /// The platforms on offer, for an error message. Attestations are listed as `unknown/unknown` and are no platform.
    fn available(&self) -> String {
        const SHOWN: usize = 16;
        let mut names: Vec<String> = self
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(|platform| match &platform.variant {
                Some(variant) => format!("{}/{}/{variant}", platform.os, platform.architecture),
                None => format!("{}/{}", platform.os, platform.architecture),
            })
            .map(|name| crate::error::quoted(&name))
            .collect();
        names.dedup();
        names.truncate(SHOWN);
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// What a registry or layout returns under a name.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Image(Box<Manifest>),
    Index(Index),
}

/// The fields that tell an index from a manifest.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u32>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses `bytes`; `what` names them in errors, `declared` is the media type they were delivered with.
    pub(crate) fn parse(bytes: &[u8], declared: Option<&str>, what: &str) -> Result<Document, Error> {
        let length = bytes.len() as u64;
        if length > MAX_DOCUMENT {
            return Err(Error::LimitExceeded { what: format!("bytes of {what}"), limit: MAX_DOCUMENT, found: length });
        }
        let malformed = |source| Error::InvalidManifest { what: what.to_owned(), source };
        let shape: Shape = serde_json::from_slice(bytes).map_err(malformed)?;
        let known = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];
        let named = shape.media_type.as_deref().or(declared.filter(|declared| known.contains(declared)));
        if shape.schema_version == Some(1) || named.is_some_and(|named| !known.contains(&named)) {
            let media_type = named.or(declared).unwrap_or("application/vnd.docker.distribution.manifest.v1+json");
            let media_type = crate::error::quoted(media_type);
            return Err(Error::UnsupportedMediaType { what: what.to_owned(), media_type });
        }
        let index_type = named.map(|named| named == OCI_INDEX || named == DOCKER_INDEX);
        let has_image_fields = shape.layers.is_some() || shape.config.is_some();
        if shape.manifests.is_some() && has_image_fields {
            return Err(Error::AmbiguousManifest { what: what.to_owned() });
        }
        if index_type.unwrap_or(shape.manifests.is_some()) {
            return Ok(Document::Index(serde_json::from_slice(bytes).map_err(malformed)?));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(malformed)?;
        manifest.check(what)?;
        Ok(Document::Image(Box::new(manifest)))
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
