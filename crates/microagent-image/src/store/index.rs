//! The index of the store: which names mean which images.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Platform, Reference};

use super::{ImageStore, files};

const VERSION: u32 = 1;
const FILE: &str = "index.json";
/// The index while it is written; a crash leaves it, and the next change overwrites it.
pub(super) const NEW_FILE: &str = "index.json.new";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    version: u32,
    pub(super) images: Vec<Entry>,
}

/// One name of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) reference: Reference,
    pub(super) platform: Platform,
    pub(super) manifest: Digest,
    /// The multi-platform index the manifest was chosen from. Pinned references often name it.
    pub(super) index: Option<Digest>,
    /// When the name was given this meaning, in seconds since 1970.
    pub(super) added: u64,
}

impl Entry {
    pub(super) fn new(reference: Reference, platform: Platform, manifest: Digest, index: Option<Digest>) -> Entry {
        let added = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Entry { reference, platform, manifest, index, added }
    }

    /// Whether this entry is what `reference` means: the same name, or for a pinned one, the same content.
    pub(super) fn answers(&self, reference: &Reference) -> bool {
        match reference.digest() {
            Some(digest) => {
                let same_repository = self.reference.registry() == reference.registry()
                    && self.reference.repository() == reference.repository();
                same_repository && (self.manifest == *digest || self.index.as_ref() == Some(digest))
            }
            None => self.reference == *reference,
        }
    }
}

impl Index {
    pub(super) fn load(root: &Path) -> Result<Index, Error> {
        let index = files::read_record(&root.join(FILE), VERSION)?;
        Ok(index.unwrap_or(Index { version: VERSION, images: Vec::new() }))
    }

    fn store(&self, root: &Path) -> Result<(), Error> {
        let new = root.join(NEW_FILE);
        files::write_record(&new, self)?;
        files::rename(&new, &root.join(FILE))?;
        files::sync_directory(root)
    }

    pub(super) fn find(&self, reference: &Reference, platform: Platform) -> Option<&Entry> {
        self.images.iter().find(|entry| entry.platform == platform && entry.answers(reference))
    }

    /// Entries whose manifest or index digest starts with `prefix`, with or without its algorithm.
    pub(super) fn with_digest_prefix(&self, prefix: &str) -> impl Iterator<Item = &Entry> {
        let fits = move |digest: &Digest| digest.hex().starts_with(prefix) || digest.to_string().starts_with(prefix);
        self.images.iter().filter(move |entry| fits(&entry.manifest) || entry.index.as_ref().is_some_and(fits))
    }

    /// Gives `entry.reference` the meaning of `entry`, replacing what it meant on that platform.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.images.retain(|old| old.reference != entry.reference || old.platform != entry.platform);
        self.images.push(entry);
        self.images.sort_by(|a, b| (&a.reference, a.platform).cmp(&(&b.reference, b.platform)));
    }
}

impl ImageStore {
    pub(super) fn index(&self) -> Result<Index, Error> {
        Index::load(&self.root)
    }

    /// Changes the index while nobody else can.
    pub(super) fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T, Error> {
        let _exclusive = self.exclusive()?;
        let mut index = self.index()?;
        let outcome = change(&mut index);
        index.store(&self.root)?;
        Ok(outcome)
    }
}
