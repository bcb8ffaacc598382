//! Building the base of an image from its unpacked layers, and publishing it whole or not at all.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use crate::digest::{Algorithm, Digester};
use crate::image::{BASE_FILE, BASE_RECORD, BASE_VERSION, BaseFormat, BaseImage, BaseRecord, Contents, Layer};
use crate::progress::Event;
use crate::rootfs::{Tree, write_erofs_observed};
use crate::source::Resolved;
use crate::{Digest, Error};

use super::layer::{Fetching, UnpackedLayer};
use super::{ImageStore, files};

/// The directory a base is built in before it is published.
const UNFINISHED: &str = "base";
/// The directory a base that is replaced is moved to.
const REPLACED: &str = "replaced";

impl ImageStore {
    /// The base of the image with this manifest, if it is complete and of the version this program writes.
    pub(super) fn base_of(&self, manifest: &Digest) -> Result<Option<BaseImage>, Error> {
        let directory = self.base_path(manifest);
        let record = match files::read_record::<BaseRecord>(&directory.join(BASE_RECORD), BASE_VERSION) {
            Ok(Some(record)) => record,
            // Bases can always be built again, so one that cannot be understood is as good as none.
            Ok(None) | Err(Error::InvalidRecord { .. } | Error::RecordVersion { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let base = BaseImage::new(&directory, record);
        let complete = base.path.metadata().is_ok_and(|metadata| metadata.len() == base.size);
        Ok(complete.then_some(base))
    }
}

/// Merges the layers of an image, lowest first.
pub(super) fn merge<'a>(
    fetching: &Fetching<'_>,
    layers: impl IntoIterator<Item = &'a UnpackedLayer>,
) -> Result<Tree, Error> {
    let mut tree = Tree::new(fetching.store.limits.clone());
    for layer in layers {
        fetching.cancellation.check()?;
        tree.apply(&layer.tar)?;
    }
    Ok(tree)
}

/// Builds and publishes the base of `resolved`. The caller holds the lock of its manifest.
pub(super) fn build(
    fetching: &Fetching<'_>,
    resolved: &Resolved,
    layers: &[&UnpackedLayer],
) -> Result<BaseImage, Error> {
    fetching.progress.event(Event::Building { bytes: layers.iter().map(|layer| layer.size).sum() });
    let tree = merge(fetching, layers.iter().copied())?;
    let unfinished = fetching.lease.path().join(UNFINISHED);
    files::create_directory(&unfinished)?;
    let path = unfinished.join(BASE_FILE);
    let file = files::create_file(&path)?;
    let cancellation = fetching.cancellation;
    write_erofs_observed(&tree, &file, &mut |_| cancellation.flow())?;
    let (digest, size) = seal(&file, &path)?;
    let record = BaseRecord {
        version: BASE_VERSION,
        manifest_digest: resolved.manifest_digest.clone(),
        config_digest: resolved.manifest.config.digest.clone(),
        platform: resolved.platform,
        created: resolved.config.created.clone(),
        config: resolved.config.config.clone(),
        layers: describe(resolved),
        format: BaseFormat::Erofs,
        size,
        digest,
        contents: Contents::from(&tree.summary()),
    };
    cancellation.check()?;
    files::write_record(&unfinished.join(BASE_RECORD), &record)?;
    files::sync_directory(&unfinished)?;
    let directory = publish(fetching, &unfinished, &resolved.manifest_digest)?;
    fetching.progress.event(Event::Built { bytes: size });
    Ok(BaseImage::new(&directory, record))
}

fn describe(resolved: &Resolved) -> Vec<Layer> {
    let layers = resolved.manifest.layers.iter().zip(&resolved.config.diff_ids);
    let layer = layers.map(|(descriptor, diff_id)| Layer {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        diff_id: diff_id.clone(),
    });
    layer.collect()
}

/// Makes the base durable and read-only, and computes its digest meanwhile: one waits for the disk, the other computes.
fn seal(file: &File, path: &Path) -> Result<(Digest, u64), Error> {
    let failed = || Error::io("finishing", path);
    let digest = thread::scope(|scope| {
        let flushing = scope.spawn(|| {
            file.set_permissions(Permissions::from_mode(0o400))?;
            file.sync_all()
        });
        let digest = digest_of(file, path);
        flushing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(failed())?;
        digest
    })?;
    Ok((digest, file.metadata().map_err(failed())?.len()))
}

fn digest_of(file: &File, path: &Path) -> Result<Digest, Error> {
    use std::os::unix::fs::FileExt;
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut buffer = vec![0; 1024 * 1024];
    let mut position = 0;
    loop {
        match file.read_at(&mut buffer, position).map_err(Error::io("reading", path))? {
            0 => return Ok(digester.finish()),
            read => {
                digester.update(&buffer[..read]);
                position += read as u64;
            }
        }
    }
}

/// Moves a finished base to its place. What stands there is of another version or incomplete.
fn publish(fetching: &Fetching<'_>, unfinished: &Path, manifest: &Digest) -> Result<std::path::PathBuf, Error> {
    let directory = fetching.store.base_path(manifest);
    if directory.exists() {
        files::rename(&directory, &fetching.lease.path().join(REPLACED))?;
    }
    files::rename(unfinished, &directory)?;
    files::sync_directory(&fetching.store.bases())?;
    Ok(directory)
}
