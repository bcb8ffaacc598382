//! What names mean: finding, listing, looking up and tagging images.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::digest::is_lower_hex;
use crate::manifest::Document;
use crate::{Digest, Error, Image, Layer, Platform, Reference};

use super::ImageStore;
use super::index::{Entry, Index};

/// Fewest digits by which an image may be named.
const SHORTEST_PREFIX: usize = 3;

/// One line of the list of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageSummary {
    /// The name.
    pub reference: Reference,
    /// What it is built for.
    pub platform: Platform,
    /// Digest of its manifest.
    pub manifest_digest: Digest,
    /// Bytes of its layers as they were sent.
    pub compressed_size: u64,
    /// Bytes of its base image; `None` if that is missing and will be built at the next use.
    pub base_size: Option<u64>,
    /// When the name was given this meaning, in seconds since 1970.
    pub added: u64,
}

impl ImageStore {
    /// The image `reference` means in this store on `platform`, without asking anybody.
    pub fn find(&self, reference: &Reference, platform: Platform) -> Result<Option<Image>, Error> {
        match self.index()?.find(reference, platform) {
            Some(entry) => self.image(entry, reference.clone()),
            None => Ok(None),
        }
    }

    /// Every name in the store, sorted.
    pub fn list(&self) -> Result<Vec<ImageSummary>, Error> {
        let mut list = Vec::new();
        for entry in self.index()?.images {
            let base = self.base_of(&entry.manifest)?;
            let image = match &base {
                Some(base) => Some(base.record.image(entry.reference.clone())),
                None => self.image(&entry, entry.reference.clone())?,
            };
            list.push(ImageSummary {
                compressed_size: image.map_or(0, |image| image.compressed_size()),
                base_size: base.map(|base| base.size),
                reference: entry.reference,
                platform: entry.platform,
                manifest_digest: entry.manifest,
                added: entry.added,
            });
        }
        Ok(list)
    }

    /// The image a user means by `name`: a reference, or the first digits of a digest. Where a name has several
    /// platforms, `platform` decides, else the host's own is preferred.
    pub fn lookup(&self, name: &str, platform: Option<Platform>) -> Result<Image, Error> {
        let index = self.index()?;
        let entries = select(&index, name, platform)?;
        let preferred = entries.iter().find(|entry| entry.platform == platform.unwrap_or_default());
        let not_local = || Error::NotLocal { name: crate::error::quoted(name) };
        let entry = preferred.or(entries.first()).ok_or_else(not_local)?;
        self.image(entry, entry.reference.clone())?.ok_or_else(not_local)
    }

    /// Gives the image that `name` means the further name `target`, on every platform the name has.
    pub fn tag(&self, name: &str, target: &Reference) -> Result<Image, Error> {
        check_new(target)?;
        self.change_index(|index| {
            let sources: Vec<Entry> = select(index, name, None)?.into_iter().cloned().collect();
            for source in sources {
                index.insert(Entry::new(target.clone(), source.platform, source.manifest, source.index));
            }
            Ok::<(), Error>(())
        })??;
        self.lookup(&target.to_string(), None)
    }

    /// The image of an entry, under the name it was asked for by. From the record of its base or, where that is missing,
    /// from its manifest and config. `None` if those are gone as well.
    fn image(&self, entry: &Entry, reference: Reference) -> Result<Option<Image>, Error> {
        if let Some(base) = self.base_of(&entry.manifest)? {
            return Ok(Some(base.record.image(reference)));
        }
        let what = format!("`{}`", reference.familiar());
        let manifest = self.read_blob(&entry.manifest, &what).and_then(|bytes| Document::parse(&bytes, None, &what));
        let Ok(Document::Image(manifest)) = manifest else { return Ok(None) };
        let Ok(config) = self.read_blob(&manifest.config.digest, &what) else { return Ok(None) };
        let config = crate::config::ConfigDocument::parse(&config, &what)?;
        let layers = manifest.layers.into_iter().zip(config.diff_ids).map(|(descriptor, diff_id)| Layer {
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type,
            diff_id,
        });
        Ok(Some(Image {
            reference,
            manifest_digest: entry.manifest.clone(),
            config_digest: manifest.config.digest,
            platform: entry.platform,
            created: config.created,
            config: config.config,
            layers: layers.collect(),
        }))
    }
}

/// Refuses a name that says itself what it means.
pub(super) fn check_new(target: &Reference) -> Result<(), Error> {
    if !target.is_pinned() {
        return Ok(());
    }
    let text = target.familiar();
    let position = text.find('@').map_or(1, |at| at + 1);
    Err(Error::InvalidReference { text, position, reason: "a new name cannot contain a digest" })
}

/// The entries `name` means: those of that reference, else those of the one image whose digest starts so.
pub(super) fn select<'a>(index: &'a Index, name: &str, platform: Option<Platform>) -> Result<Vec<&'a Entry>, Error> {
    let on_platform = |entry: &&Entry| platform.is_none_or(|platform| entry.platform == platform);
    let parsed = name.parse::<Reference>();
    if let Ok(reference) = &parsed {
        let named: Vec<&Entry> =
            index.images.iter().filter(|entry| entry.answers(reference)).filter(on_platform).collect();
        if !named.is_empty() {
            return Ok(named);
        }
    }
    let digits = name.split_once(':').map_or(name, |(_, digits)| digits);
    if digits.len() < SHORTEST_PREFIX || !is_lower_hex(digits) {
        return Err(parsed.err().unwrap_or_else(|| Error::NotLocal { name: crate::error::quoted(name) }));
    }
    let found: Vec<&Entry> = index.with_digest_prefix(name).filter(on_platform).collect();
    let manifests: BTreeSet<&Digest> = found.iter().map(|entry| &entry.manifest).collect();
    match manifests.len() {
        0 => Err(Error::NotLocal { name: name.to_owned() }),
        1 => Ok(found),
        _ => {
            let matches = manifests.iter().map(|digest| digest.short()).collect::<Vec<_>>().join(", ");
            Err(Error::AmbiguousPrefix { prefix: name.to_owned(), matches })
        }
    }
}
