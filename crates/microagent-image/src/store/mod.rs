//! The local store of images.
//!
//! ```text
//! index.json                      which name means which manifest
//! blobs/sha256/<hex>              manifests, configs and layers, as they were sent
//! bases/<manifest hex>/           base.erofs, the root filesystem every machine of the image shares, and base.json
//! partial/sha256-<hex>            layers whose download was interrupted
//! locks/sha256-<hex>              held while a blob is fetched or a base is built, so that it is done once
//! work/lease-<random>/            everything unfinished, with a lock that is held while the work goes on
//! lock                            held for the moment in which the index changes or garbage is removed
//! ```
//!
//! Everything appears in its place by a rename, complete. Finding an image that is there reads two small files, takes no
//! lock and hashes nothing. A layer is unpacked while it is downloaded, into a file without a name that vanishes when
//! the base is built; a failed pull leaves nothing, an interrupted one only what its repetition can continue from.
//!
//! | file | idea |
//! |---|---|
//! | `admit` | from a resolved image to a published one: layers in parallel, base, name |
//! | `layer`, `tail` | one layer: fetched once, verified, unpacked while it arrives |
//! | `base` | the base image, built and published atomically |
//! | `commit` | a new image: the layers of another, and one on top of them |
//! | `push` | an image on its way to a registry |
//! | `parallel` | several blobs at a time |
//! | `names`, `index` | what names mean: find, list, look up, tag |
//! | `reclaim` | remove, prune, garbage collection, disk usage |
//! | `lease`, `lock`, `files` | claims of running work, locks, and files |

mod admit;
mod base;
mod commit;
pub(crate) mod files;
mod index;
mod layer;
mod lease;
mod lock;
mod names;
mod parallel;
mod push;
mod reclaim;
mod rootfs_build;
mod tail;

use std::path::{Path, PathBuf};

use crate::progress::Progress;
use crate::registry::Registry;
use crate::rootfs::Limits;
use crate::{BaseImage, Cancellation, Digest, Error, Image, Platform, Reference};

use lock::FileLock;

pub use names::ImageSummary;
pub use push::{PushOptions, Pushed};
pub use reclaim::{DiskUsage, InUse, Pruned, Removed};
pub use rootfs_build::BuiltRootfs;

/// When the registry is asked what a reference means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only if the store has no image of that name.
    #[default]
    Missing,
    /// Always, so that a moved tag is noticed.
    Always,
    /// Never: an image that is not in the store is an error.
    Never,
}

/// How to get an image.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// The platform it must be for; the host's own by default.
    pub platform: Platform,
    /// When to ask the registry.
    pub policy: PullPolicy,
    /// Do not check the registry's certificate, and speak plain HTTP to it if it has no TLS. A registry on this machine
    /// may speak plain HTTP in any case.
    pub insecure: bool,
    /// The directory whose `config.json` holds registry credentials. Without it, `$DOCKER_CONFIG` or `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// A directory of certificate authorities, trusted for `REGISTRY:PORT` if they are in `REGISTRY:PORT/*.crt` in it.
    /// It is looked at before `~/.config/containers/certs.d`, `/etc/docker/certs.d` and `/etc/containers/certs.d`.
    pub certificates: Option<PathBuf>,
    /// Stops the work when turned on; the error is then [`Error::Cancelled`].
    pub cancellation: Cancellation,
}

/// The images of one state directory. Cheap to open; any number of processes may use the same directory at once.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
    limits: Limits,
}

impl ImageStore {
    /// Opens the store in `directory`. Nothing is created before something is stored.
    pub fn open(directory: impl Into<PathBuf>) -> ImageStore {
        ImageStore { root: directory.into(), limits: Limits::default() }
    }

    /// The same store, with other limits on what the layers of an image may contain.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> ImageStore {
        ImageStore { limits, ..self }
    }

    /// The directory of the store.
    pub fn directory(&self) -> &Path {
        &self.root
    }

    /// Gets the image and its base, doing no more than needed: nothing if both are there, building the base if only that
    /// is missing, pulling the image otherwise (see [`PullPolicy`]).
    pub fn ensure(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<(Image, BaseImage), Error> {
        options.cancellation.check()?;
        if options.policy != PullPolicy::Always {
            if let Some(image) = self.find(reference, options.platform)? {
                if let Some(base) = self.base(&image)? {
                    return Ok((image, base));
                }
                if self.has_blobs(&image) {
                    return self.rebuild(&image, options, progress);
                }
            }
            if options.policy == PullPolicy::Never {
                return Err(Error::NotLocal { name: reference.familiar() });
            }
        }
        self.prepare()?;
        let registry = Registry::connect(reference, options, progress)?;
        let resolved = registry.resolve(options.platform)?;
        self.admit(&resolved, &registry, &options.cancellation, progress)
    }

    /// The base of `image`, if it is there.
    pub fn base(&self, image: &Image) -> Result<Option<BaseImage>, Error> {
        self.base_of(&image.manifest_digest)
    }

    /// Creates the directories of the store.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        let blobs = crate::digest::Algorithm::ALL.map(|algorithm| self.blobs().join(algorithm.name()));
        let others = [self.bases(), self.partials(), self.locks(), self.work()];
        blobs.iter().chain(&others).try_for_each(|directory| files::create_directory(directory))
    }

    /// Keeps every other process from changing the index or removing garbage. Held for moments only.
    fn exclusive(&self) -> Result<FileLock, Error> {
        files::create_directory(&self.root)?;
        FileLock::acquire(&self.root.join("lock"), &Cancellation::new(), || ())
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.algorithm().name()).join(digest.hex())
    }

    fn base_path(&self, manifest: &Digest) -> PathBuf {
        self.bases().join(manifest.hex())
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.partials().join(flat_name(digest))
    }

    fn lock_of(&self, digest: &Digest) -> PathBuf {
        self.locks().join(flat_name(digest))
    }
}

/// `sha256-<hex>`: a digest as the name of one file.
fn flat_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}
