//! Getting space back: remove, prune, garbage collection, and how much there is to get.
//!
//! All of them are one sweep with different ideas of what must stay. What running work has claimed always stays (see
//! [`lease`](super::lease)), as does what the caller says is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::digest::Algorithm;
use crate::image::{BASE_RECORD, BASE_VERSION, BaseRecord};
use crate::manifest::Document;
use crate::{Digest, Error, Reference};

use super::index::{Entry, NEW_FILE};
use super::lock::FileLock;
use super::names::select;
use super::{ImageStore, files};

/// Tells whether a base, by the digest of its manifest, is in use by a workspace and must stay.
pub type InUse<'a> = dyn Fn(&Digest) -> bool + 'a;

/// What [`ImageStore::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Manifests of images whose data is gone as well.
    pub deleted: Vec<Digest>,
    /// Manifests of images that have no name any more and stay because they are in use.
    pub kept: Vec<Digest>,
    /// Bytes of disk space that were freed.
    pub bytes: u64,
}

/// What [`ImageStore::prune`] removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Manifests of images whose data is gone.
    pub deleted: Vec<Digest>,
    /// Bytes of disk space that were freed, unfinished downloads and other garbage included.
    pub bytes: u64,
}

/// What the store takes on disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskUsage {
    /// Images with at least one name.
    pub images: usize,
    /// Manifests, configs and layers as they were sent.
    pub blobs: u64,
    /// Base images.
    pub bases: u64,
    /// Unfinished downloads and work in progress.
    pub unfinished: u64,
    /// What [`ImageStore::prune`] would free, if no nameless image is in use.
    pub reclaimable: u64,
}

/// Whether a base must stay, given the digest of its manifest and whether it has a name.
type Keep<'a> = dyn Fn(&Digest, bool) -> bool + 'a;

impl ImageStore {
    /// Removes the image `name` means: by reference, that name; by digest, all names of the image. With its last name
    /// goes the data, unless it is in use.
    pub fn remove(&self, name: &str, in_use: &InUse<'_>) -> Result<Removed, Error> {
        let (untagged, orphans) = self.change_index(|index| {
            let doomed: Vec<_> = select(index, name, None)?.into_iter().cloned().collect();
            index.images.retain(|entry| !doomed.contains(entry));
            let still_named: BTreeSet<&Digest> = index.images.iter().map(|entry| &entry.manifest).collect();
            let orphans = doomed.iter().map(|entry| entry.manifest.clone());
            let orphans: BTreeSet<Digest> = orphans.filter(|manifest| !still_named.contains(manifest)).collect();
            Ok::<_, Error>((doomed.into_iter().map(|entry| entry.reference).collect(), orphans))
        })??;
        let (kept, deleted): (Vec<Digest>, Vec<Digest>) = orphans.into_iter().partition(|manifest| in_use(manifest));
        let mut scope = BTreeSet::new();
        for manifest in &deleted {
            scope.extend(self.contents_of(manifest));
        }
        let swept = self.sweep(&|manifest, named| named || !deleted.contains(manifest), Some(&scope), Act::Remove)?;
        Ok(Removed { untagged, deleted, kept, bytes: swept.bytes })
    }

    /// Removes every image that has no name and is not in use, and all garbage. With `all`, also the names of images
    /// that are not in use. With `dry_run`, only tells.
    pub fn prune(&self, all: bool, dry_run: bool, in_use: &InUse<'_>) -> Result<Pruned, Error> {
        let mut untagged = Vec::new();
        if all {
            let doomed = |entry: &&Entry| !in_use(&entry.manifest);
            untagged = self.index()?.images.iter().filter(doomed).map(|entry| entry.reference.clone()).collect();
        }
        if all && !dry_run && !untagged.is_empty() {
            self.change_index(|index| index.images.retain(|entry| in_use(&entry.manifest)))?;
        }
        let act = if dry_run { Act::Tell } else { Act::Remove };
        // The names are still there if this is only a look; if not, those that are there have been given since.
        let names_count = !(all && dry_run);
        let swept = self.sweep(&|manifest, named| (named && names_count) || in_use(manifest), None, act)?;
        Ok(Pruned { untagged, deleted: swept.bases, bytes: swept.bytes })
    }

    /// Removes what crashed processes left and no image refers to. Images without a name stay. Returns the bytes freed.
    pub fn collect_garbage(&self) -> Result<u64, Error> {
        Ok(self.sweep(&|_, _| true, None, Act::Remove)?.bytes)
    }

    /// What the store takes on disk.
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let named: BTreeSet<Digest> = self.index()?.images.into_iter().map(|entry| entry.manifest).collect();
        Ok(DiskUsage {
            images: named.len(),
            blobs: files::disk_usage(&self.blobs()),
            bases: files::disk_usage(&self.bases()),
            unfinished: files::disk_usage(&self.partials()) + files::disk_usage(&self.work()),
            reclaimable: self.sweep(&|_, named| named, None, Act::Tell)?.bytes,
        })
    }

    /// Removes those of `digests` that nothing needs: what a failed pull has fetched.
    pub(super) fn discard(&self, digests: &[Digest]) -> Result<(), Error> {
        let scope = digests.iter().cloned().collect();
        self.sweep(&|_, _| true, Some(&scope), Act::Remove).map(drop)
    }

    /// Removes, or only measures, everything that is not needed by running work or by a base that `keep` spares, given
    /// its manifest and whether it has a name. With `scope`, only blobs and bases of these digests are considered, and
    /// garbage of crashes is left alone.
    ///
    /// Names are looked up under the lock: one given a moment before must not lose its data.
    fn sweep(&self, keep: &Keep<'_>, scope: Option<&BTreeSet<Digest>>, act: Act) -> Result<Swept, Error> {
        if !self.root.exists() {
            return Ok(Swept::default());
        }
        let _exclusive = self.exclusive()?;
        let (claimed, dead) = self.leases()?;
        let mut needed: BTreeSet<Digest> = claimed.into_iter().collect();
        let in_scope = |digest: &Digest| scope.is_none_or(|scope| scope.contains(digest));
        let named: BTreeSet<Digest> = self.index()?.images.into_iter().map(|entry| entry.manifest).collect();
        let bases = self.bases_present()?;
        let images: BTreeSet<&Digest> = bases.keys().chain(&named).collect();
        for manifest in images {
            if needed.contains(manifest) || keep(manifest, named.contains(manifest)) {
                needed.extend(self.contents_of(manifest));
            }
        }
        let mut swept = Swept::default();
        for (manifest, directory) in bases {
            if !needed.contains(&manifest) && in_scope(&manifest) {
                swept.take(&directory, act, Some(&self.work()))?;
                swept.bases.push(manifest);
            }
        }
        for (digest, blob) in self.blobs_present()? {
            if !needed.contains(&digest) && in_scope(&digest) {
                swept.take(&blob, act, None)?;
            }
        }
        self.sweep_unlocked(&self.partials(), &in_scope, act, &mut swept)?;
        if scope.is_none() {
            for directory in dead {
                swept.take(&directory, act, None)?;
            }
            swept.take(&self.root.join(NEW_FILE), act, None)?;
            self.sweep_unlocked(&self.locks(), &in_scope, act, &mut swept)?;
        }
        Ok(swept)
    }

    /// Takes the files in `directory` that are named by a digest nobody is working on.
    fn sweep_unlocked(
        &self,
        directory: &Path,
        in_scope: &dyn Fn(&Digest) -> bool,
        act: Act,
        swept: &mut Swept,
    ) -> Result<(), Error> {
        for path in files::entries(directory)? {
            let Some(digest) = file_name(&path).and_then(|name| name.replacen('-', ":", 1).parse::<Digest>().ok())
            else {
                continue;
            };
            if in_scope(&digest) {
                let lock = FileLock::try_acquire(&self.lock_of(&digest))?;
                if lock.is_some() {
                    swept.take(&path, act, None)?;
                }
            }
        }
        Ok(())
    }

    /// The config and layers of an image, as far as they can be told.
    pub(super) fn contents_of(&self, manifest: &Digest) -> Vec<Digest> {
        let record = files::read_record::<BaseRecord>(&self.base_path(manifest).join(BASE_RECORD), BASE_VERSION);
        if let Ok(Some(record)) = record {
            let layers = record.layers.into_iter().map(|layer| layer.digest);
            return layers.chain([manifest.clone(), record.config_digest]).collect();
        }
        let what = "an image";
        let document = self.read_blob(manifest, what).and_then(|bytes| Document::parse(&bytes, None, what));
        match document {
            Ok(Document::Image(parsed)) => {
                let layers = parsed.layers.into_iter().map(|layer| layer.digest);
                layers.chain([manifest.clone(), parsed.config.digest]).collect()
            }
            _ => vec![manifest.clone()],
        }
    }

    fn bases_present(&self) -> Result<BTreeMap<Digest, PathBuf>, Error> {
        let directories = files::entries(&self.bases())?;
        Ok(directories.into_iter().filter_map(|path| Some((digest_of_hex(file_name(&path)?)?, path))).collect())
    }

    fn blobs_present(&self) -> Result<Vec<(Digest, PathBuf)>, Error> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            for path in files::entries(&self.blobs().join(algorithm.name()))? {
                found.extend(file_name(&path).and_then(digest_of_hex).map(|digest| (digest, path.clone())));
            }
        }
        Ok(found)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Tell,
    Remove,
}

#[derive(Debug, Default)]
struct Swept {
    bases: Vec<Digest>,
    bytes: u64,
}

impl Swept {
    /// Counts `path` and, if this is not only a look, removes it. A directory is first moved to `aside`, where it counts
    /// as garbage should the removal be interrupted.
    fn take(&mut self, path: &Path, act: Act, aside: Option<&Path>) -> Result<(), Error> {
        self.bytes += files::disk_usage(path);
        match (act, aside.zip(path.file_name())) {
            (Act::Tell, _) => Ok(()),
            (Act::Remove, None) => files::remove(path),
            (Act::Remove, Some((aside, name))) => {
                let doomed = aside.join(name);
                files::remove(&doomed)?;
                files::rename(path, &doomed)?;
                files::remove(&doomed)
            }
        }
    }
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The digest with these digits; their number tells the algorithm.
fn digest_of_hex(hex: &str) -> Option<Digest> {
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.hex_length() == hex.len())?;
    format!("{}:{hex}", algorithm.name()).parse().ok()
}
