//! Writing the root filesystem of an image to a file of the user's own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::image::BaseFormat;
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::rootfs::write_ext4_observed;
use crate::{Cancellation, Error, Image};

use super::admit::{Stored, fetch_layers};
use super::base::merge;
use super::layer::Fetching;
use super::{ImageStore, PullOptions};

/// A root filesystem written by [`ImageStore::rootfs_build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltRootfs {
    /// Its filesystem.
    pub format: BaseFormat,
    /// Its size in bytes.
    pub size: u64,
}

impl ImageStore {
    /// Writes the root filesystem of `image`, which must be in the store, to `out`. The file appears complete or not at
    /// all, replacing what was there. `size` is the size of an ext4 filesystem; without it, contents decide.
    ///
    /// Whether a mutable reference is acceptable is for the caller to decide: see [`Reference::is_pinned`].
    ///
    /// [`Reference::is_pinned`]: crate::Reference::is_pinned
    pub fn rootfs_build(
        &self,
        image: &Image,
        out: &Path,
        format: BaseFormat,
        size: Option<u64>,
        cancellation: &Cancellation,
        progress: &dyn Progress,
    ) -> Result<BuiltRootfs, Error> {
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let unfinished = tempfile::Builder::new().prefix(".microagent-rootfs-").tempdir_in(parent);
        let unfinished = unfinished.map_err(Error::io("creating a directory in", parent))?;
        let path = unfinished.path().join("rootfs");
        match format {
            BaseFormat::Erofs => self.copy_base(image, &path, cancellation, progress)?,
            BaseFormat::Ext4 => self.write_ext4(image, &path, size, cancellation, progress)?,
        }
        let failed = || Error::io("finishing", out);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed())?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed())?;
        let size = path.metadata().map_err(failed())?.len();
        super::files::rename(&path, out)?;
        progress.event(Event::Built { bytes: size });
        Ok(BuiltRootfs { format, size })
    }

    fn copy_base(
        &self,
        image: &Image,
        path: &Path,
        cancellation: &Cancellation,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let base = if let Some(base) = self.base(image)? {
            base
        } else {
            let (platform, cancellation) = (image.platform, cancellation.clone());
            let options = PullOptions { platform, cancellation, ..PullOptions::default() };
            self.rebuild(image, &options, progress)?.1
        };
        cancellation.check()?;
        fs::copy(&base.path, path).map_err(Error::io("writing", path))?;
        Ok(())
    }

    fn write_ext4(
        &self,
        image: &Image,
        path: &Path,
        size: Option<u64>,
        cancellation: &Cancellation,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let lease = self.lease(&image.digests().cloned().collect::<Vec<_>>())?;
        let fetching = Fetching { store: self, lease: &lease, source: &Stored, cancellation, progress };
        let descriptor = |layer: &crate::Layer| Descriptor::new(&layer.media_type, layer.digest.clone(), layer.size);
        let unpacked = fetch_layers(&fetching, &image.layers.iter().map(descriptor).collect::<Vec<_>>())?;
        let layers = image.layers.iter().map(|layer| &unpacked[&layer.digest]);
        progress.event(Event::Building { bytes: layers.clone().map(|layer| layer.size).sum() });
        let tree = merge(&fetching, layers)?;
        write_ext4_observed(&tree, path, size, &mut |_| cancellation.flow())?;
        Ok(())
    }
}
