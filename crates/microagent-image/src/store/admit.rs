//! From a resolved image to a published one.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Descriptor, Document, MAX_DOCUMENT};
use crate::progress::{Event, Progress};
use crate::source::{Resolved, Sink, Source};
use crate::{BaseImage, Cancellation, Digest, Error, Image, PullOptions};

use super::index::Entry;
use super::layer::{Fetching, UnpackedLayer, is_interruption};
use super::lease::Lease;
use super::lock::FileLock;
use super::{ImageStore, base, files, parallel};

impl ImageStore {
    /// Makes `resolved` an image of this store: fetches and verifies its layers, builds its base, gives it its name.
    ///
    /// Of several callers with the same image, one works and the others wait for its result.
    pub(crate) fn admit(
        &self,
        resolved: &Resolved,
        source: &dyn Source,
        cancellation: &Cancellation,
        progress: &dyn Progress,
    ) -> Result<(Image, BaseImage), Error> {
        let (layers, bytes) = (resolved.manifest.layers.len(), resolved.manifest.layers_size());
        let manifest_digest = &resolved.manifest_digest;
        progress.event(Event::Resolved { manifest_digest, layers, bytes });
        let waiting = || progress.event(Event::Waiting { digest: manifest_digest });
        let _lock = FileLock::acquire(&self.lock_of(manifest_digest), cancellation, waiting)?;
        // A lease even if there is nothing to do: it keeps a clean-up from removing the base before it has a name.
        let lease = self.lease(&resolved.digests())?;
        let base = match self.base_of(manifest_digest)? {
            Some(base) if self.has_blobs(&base.record.image(resolved.reference.clone())) => base,
            _ => {
                let fetching = Fetching { store: self, lease: &lease, source, cancellation, progress };
                match self.fetch_and_build(&fetching, resolved) {
                    Ok(base) => base,
                    Err(error) => {
                        drop(lease);
                        if !is_interruption(&error) {
                            self.discard(&resolved.digests())?;
                        }
                        return Err(error);
                    }
                }
            }
        };
        let (manifest, index) = (manifest_digest.clone(), resolved.index_digest.clone());
        let entry = Entry::new(resolved.reference.clone(), resolved.platform, manifest, index);
        self.change_index(|index| index.insert(entry))?;
        Ok((base.record.image(resolved.reference.clone()), base))
    }

    fn fetch_and_build(&self, fetching: &Fetching<'_>, resolved: &Resolved) -> Result<BaseImage, Error> {
        let unpacked = fetch_layers(fetching, &resolved.manifest.layers)?;
        let mut layers = Vec::with_capacity(resolved.manifest.layers.len());
        for (descriptor, expected) in resolved.manifest.layers.iter().zip(&resolved.config.diff_ids) {
            let layer = &unpacked[&descriptor.digest];
            if layer.diff_id != *expected {
                let what = format!("layer `{}`, unpacked,", descriptor.digest.short());
                let (expected, found) = (expected.clone(), layer.diff_id.clone());
                return Err(Error::DigestMismatch { what, expected, found });
            }
            layers.push(layer);
        }
        self.write_blob(fetching.lease, &resolved.manifest_digest, &resolved.manifest_bytes)?;
        self.write_blob(fetching.lease, &resolved.manifest.config.digest, &resolved.config_bytes)?;
        base::build(fetching, resolved, &layers)
    }

    /// Builds the base of an image whose blobs are all here.
    pub(super) fn rebuild(
        &self,
        image: &Image,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<(Image, BaseImage), Error> {
        let resolved = self.resolve_stored(image)?;
        self.admit(&resolved, &Stored, &options.cancellation, progress)
    }

    /// Reads the manifest and config of `image` back from their blobs.
    pub(super) fn resolve_stored(&self, image: &Image) -> Result<Resolved, Error> {
        let what = format!("`{}`", image.reference.familiar());
        let manifest_bytes = self.read_blob(&image.manifest_digest, &what)?;
        let Document::Image(manifest) = Document::parse(&manifest_bytes, None, &what)? else {
            return Err(Error::InconsistentImage { what, reason: "its manifest is an index".to_owned() });
        };
        let config_bytes = self.read_blob(&image.config_digest, &what)?;
        let index_digest = self.index()?.find(&image.reference, image.platform).and_then(|entry| entry.index.clone());
        let digest = image.manifest_digest.clone();
        Resolved::new(
            image.reference.clone(),
            image.platform,
            manifest_bytes,
            digest,
            index_digest,
            *manifest,
            config_bytes,
        )
    }

    /// Whether every blob of `image` is here, by name; their content is verified when it is used.
    pub(super) fn has_blobs(&self, image: &Image) -> bool {
        image.digests().all(|digest| self.blob_path(digest).exists())
    }

    /// Reads a manifest or config. A damaged one is an error.
    pub(super) fn read_blob(&self, digest: &Digest, what: &str) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(digest);
        let missing = || Error::io("opening", &path)(std::io::ErrorKind::NotFound.into());
        let bytes = files::read(&path, MAX_DOCUMENT)?.ok_or_else(missing)?;
        if digest.matches(&bytes) {
            return Ok(bytes);
        }
        let what = format!("the stored manifest or config of {what}");
        Err(Error::DigestMismatch { what, expected: digest.clone(), found: Digest::of(&bytes) })
    }

    fn write_blob(&self, lease: &Lease, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let unfinished = lease.path().join(digest.hex());
        files::write(&unfinished, bytes)?;
        files::rename(&unfinished, &self.blob_path(digest))
    }
}

/// Fetches and unpacks the layers, several at a time. The first failure stops the others.
pub(super) fn fetch_layers(
    fetching: &Fetching<'_>,
    layers: &[Descriptor],
) -> Result<BTreeMap<Digest, UnpackedLayer>, Error> {
    let mut distinct = BTreeSet::new();
    let ordered: Vec<&Descriptor> = layers.iter().filter(|layer| distinct.insert(&layer.digest)).collect();
    let fetched = parallel::for_each(ordered, fetching.cancellation, |descriptor, abort| {
        let layer = Fetching { cancellation: abort, ..*fetching }.layer(descriptor)?;
        Ok((descriptor.digest.clone(), layer))
    });
    Ok(fetched?.into_iter().collect())
}

/// The source of an image whose blobs are already in the store.
pub(super) struct Stored;

impl Source for Stored {
    fn fetch(&self, descriptor: &Descriptor, _: &mut dyn Sink, _: &Cancellation) -> Result<(), Error> {
        Err(Error::damaged_blob(&descriptor.digest))
    }
}
