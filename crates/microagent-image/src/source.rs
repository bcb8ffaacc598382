//! Where the content of an image comes from: a registry or something being imported.
//!
//! Both are reduced to the same two things, so that one code path verifies, stores and builds: a [`Resolved`] image,
//! whose manifest and config are in hand, and a [`Source`] that delivers its layers on request.

use crate::config::ConfigDocument;
use crate::manifest::{Descriptor, Manifest};
use crate::{Cancellation, Digest, Error, Platform, Reference};

/// Takes the bytes of a blob in order.
pub(crate) trait Sink: Send {
    /// How many bytes it already has; the next byte it wants is at this offset.
    fn received(&self) -> u64;
    /// Takes the next bytes.
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

/// Delivers blobs.
pub(crate) trait Source: Sync {
    /// Feeds `sink` what it still lacks of the blob, up to exactly `descriptor.size` bytes. Whether they have the right
    /// digest is for the owner of the sink to check.
    fn fetch(&self, descriptor: &Descriptor, sink: &mut dyn Sink, cancellation: &Cancellation) -> Result<(), Error>;
}

/// An image that is known in every detail but the bytes of its layers.
pub(crate) struct Resolved {
    pub(crate) reference: Reference,
    pub(crate) platform: Platform,
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) manifest_digest: Digest,
    /// The index the manifest was chosen from.
    pub(crate) index_digest: Option<Digest>,
    pub(crate) manifest: Manifest,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) config: ConfigDocument,
}

impl Resolved {
    /// Puts the parts together and checks that they agree.
    pub(crate) fn new(
        reference: Reference,
        platform: Platform,
        manifest_bytes: Vec<u8>,
        manifest_digest: Digest,
        index_digest: Option<Digest>,
        manifest: Manifest,
        config_bytes: Vec<u8>,
    ) -> Result<Resolved, Error> {
        let what = format!("`{}`", reference.familiar());
        let config = ConfigDocument::parse(&config_bytes, &what)?;
        config.check_platform(platform, &what)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            let reason = format!("its manifest has {layers} layers and its config {diff_ids}");
            return Err(Error::InconsistentImage { what, reason });
        }
        Ok(Resolved {
            reference,
            platform,
            manifest_bytes,
            manifest_digest,
            index_digest,
            manifest,
            config_bytes,
            config,
        })
    }

    /// An image whose manifest was made here, because it came without one.
    pub(crate) fn made(
        reference: Reference,
        platform: Platform,
        manifest: Manifest,
        config_bytes: Vec<u8>,
    ) -> Result<Resolved, Error> {
        let bytes = manifest.to_bytes();
        let digest = Digest::of(&bytes);
        Resolved::new(reference, platform, bytes, digest, None, manifest, config_bytes)
    }

    /// Every digest the image is made of: its manifest, its config and its layers.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        let own = [self.manifest_digest.clone(), self.manifest.config.digest.clone()];
        own.into_iter().chain(self.manifest.layers.iter().map(|layer| layer.digest.clone())).collect()
    }
}
