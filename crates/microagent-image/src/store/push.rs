//! An image on its way to a registry.
//!
//! The store keeps every blob of an image as it was sent or made, so a push reads files and makes nothing: the image has
//! the same digest there as here. Its blobs go first, the manifest last, so that a name never means an image that is not
//! complete; a push that ends early leaves blobs that the registry throws away by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::manifest::{DOCKER_MANIFEST, Descriptor, Manifest, OCI_CONFIG, OCI_MANIFEST};
use crate::progress::{Event, Progress};
use crate::registry::{Delivery, Registry, StoredBlob};
use crate::{Cancellation, Digest, Error, Image, Platform, PullOptions, Reference};

use super::{ImageStore, names, parallel};

/// How to send an image to a registry.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// The name it gets there, and with it the registry. Without one, the name it has here.
    pub to: Option<Reference>,
    /// Which image to send where the name has one for several platforms; the host's own by default.
    pub platform: Option<Platform>,
    /// See [`PullOptions::insecure`].
    pub insecure: bool,
    /// See [`PullOptions::docker_config`].
    pub docker_config: Option<PathBuf>,
    /// See [`PullOptions::certificates`].
    pub certificates: Option<PathBuf>,
    /// Stops the work when turned on; the error is then [`Error::Cancelled`].
    pub cancellation: Cancellation,
}

/// What [`ImageStore::push`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// The name the image has at the registry.
    pub reference: Reference,
    /// Digest of its manifest, there as here.
    pub digest: Digest,
    /// What it is built for.
    pub platform: Platform,
    /// Blobs that were sent.
    pub uploaded: usize,
    /// Blobs the registry took from another repository of its own.
    pub mounted: usize,
    /// Blobs that were there.
    pub present: usize,
    /// Bytes that were sent.
    pub bytes: u64,
}

impl ImageStore {
    /// Sends the image `name` means to its registry, or to the one of [`PushOptions::to`].
    pub fn push(&self, name: &str, options: &PushOptions, progress: &dyn Progress) -> Result<Pushed, Error> {
        options.cancellation.check()?;
        let image = self.lookup(name, options.platform)?;
        let target = options.to.clone().unwrap_or_else(|| image.reference.clone());
        names::check_new(&target)?;
        let digests: Vec<Digest> = image.digests().cloned().collect();
        self.prepare()?;
        let _lease = self.lease(&digests)?;
        let resolved = self.resolve_stored(&image)?;
        let connection = PullOptions {
            insecure: options.insecure,
            docker_config: options.docker_config.clone(),
            certificates: options.certificates.clone(),
            cancellation: options.cancellation.clone(),
            ..PullOptions::default()
        };
        let registry = Registry::connect_to_push(&target, &connection, progress)?;
        let manifest = &resolved.manifest;
        let (layers, bytes) = (manifest.layers.len(), manifest.layers_size());
        progress.event(Event::Pushing { reference: &target, layers, bytes });
        let elsewhere = self.repositories(&target, &image)?;
        let deliveries = parallel::for_each(blobs(manifest), &options.cancellation, |descriptor, abort| {
            let blob = StoredBlob { descriptor, path: &self.blob_path(&descriptor.digest) };
            let sources = elsewhere.get(&descriptor.digest).map(Vec::as_slice).unwrap_or_default();
            Ok((registry.deliver(&blob, sources, abort)?, descriptor.size))
        })?;
        registry.publish(&resolved.manifest_bytes, media_type(manifest), &resolved.manifest_digest)?;
        drop(registry);
        let count = |kind| deliveries.iter().filter(|(delivery, _)| *delivery == kind).count();
        let sent = deliveries.iter().filter(|(delivery, _)| *delivery == Delivery::Uploaded);
        Ok(Pushed {
            uploaded: count(Delivery::Uploaded),
            mounted: count(Delivery::Mounted),
            present: count(Delivery::Present),
            bytes: sent.map(|(_, size)| size).sum(),
            reference: target,
            digest: resolved.manifest_digest,
            platform: image.platform,
        })
    }

    /// Which other repositories of the registry of `target` should have blobs of `image`, as far as this store knows: those
    /// of images that have the blob and a name there.
    fn repositories(&self, target: &Reference, image: &Image) -> Result<BTreeMap<Digest, Vec<String>>, Error> {
        let mut repositories: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        let wanted: BTreeSet<&Digest> = image.digests().collect();
        for entry in self.index()?.images {
            let (registry, repository) = (entry.reference.registry(), entry.reference.repository());
            if registry != target.registry() || repository == target.repository() {
                continue;
            }
            for digest in self.contents_of(&entry.manifest) {
                if wanted.contains(&digest) {
                    let known = repositories.entry(digest).or_default();
                    if !known.iter().any(|known| known == repository) {
                        known.push(repository.to_owned());
                    }
                }
            }
        }
        Ok(repositories)
    }
}

/// Every blob of an image once, the largest first: the last one to end then ends soonest.
fn blobs(manifest: &Manifest) -> Vec<&Descriptor> {
    let mut distinct = BTreeSet::new();
    let all = manifest.layers.iter().chain([&manifest.config]);
    let mut blobs: Vec<&Descriptor> = all.filter(|blob| distinct.insert(&blob.digest)).collect();
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    blobs
}

/// The media type of a manifest. One that does not say is of the kind its config is of.
fn media_type(manifest: &Manifest) -> &str {
    match &manifest.media_type {
        Some(media_type) => media_type,
        None if manifest.config.media_type == OCI_CONFIG => OCI_MANIFEST,
        None => DOCKER_MANIFEST,
    }
}
