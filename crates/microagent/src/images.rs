//! What is done with images besides running them.

use crate::progress::ImageEvents;
use crate::{Client, Error};
use microagent_image::{
    self as image, BaseFormat, BaseImage, Digest, Image, ImportOptions, ImportSource, Pruned, PullOptions, PushOptions,
    Pushed, Reference, Removed,
};
use serde::Serialize;
use std::collections::HashSet;
use std::path::PathBuf;

/// Options of [`Client::build_rootfs`].
#[derive(Clone, Debug)]
pub struct RootfsOptions {
    /// Image reference.
    pub image: String,
    /// The file to write; replaced if it exists.
    pub out: PathBuf,
    /// Filesystem of the file.
    pub format: BaseFormat,
    /// Size of an ext4 filesystem in MiB; the contents decide when absent.
    pub size_mib: Option<u64>,
    /// Accept a reference whose content can change.
    pub allow_mutable: bool,
    /// How the image is pulled when it is not here.
    pub pull: PullOptions,
}

/// What [`Client::build_rootfs`] wrote.
#[derive(Clone, Debug, Serialize)]
pub struct Rootfs {
    /// The file.
    pub path: PathBuf,
    /// Its filesystem.
    pub format: BaseFormat,
    /// Its size in bytes.
    pub size: u64,
    /// The image it was built from, pinned.
    pub image: Reference,
}

impl Client {
    /// Gets an image and builds its base, so that running it has nothing left to fetch.
    pub fn pull_image(&self, reference: &str, options: &PullOptions) -> Result<(Image, BaseImage), Error> {
        let reference = reference.parse()?;
        Ok(self.images().ensure(&reference, options, &ImageEvents(self.progress()))?)
    }

    /// Takes an image from a layout, an archive or a root filesystem tar.
    pub fn import_image(&self, source: &ImportSource, options: &ImportOptions) -> Result<(Image, BaseImage), Error> {
        Ok(self.images().import(source, options, &ImageEvents(self.progress()))?)
    }

    /// Sends the image `name` means to a registry.
    pub fn push_image(&self, name: &str, options: &PushOptions) -> Result<Pushed, Error> {
        Ok(self.images().push(name, options, &ImageEvents(self.progress()))?)
    }

    /// Removes the image `name` means. Its data stays as long as a workspace needs it.
    pub fn remove_image(&self, name: &str) -> Result<Removed, Error> {
        let used = self.used_images()?;
        Ok(self.images().remove(name, &|manifest| used.contains(&manifest.to_string()))?)
    }

    /// Removes images without a name and, with `all`, every image that no workspace needs. With `dry_run`, only tells.
    pub fn prune_images(&self, all: bool, dry_run: bool) -> Result<Pruned, Error> {
        let used = self.used_images()?;
        let in_use = |manifest: &Digest| used.contains(&manifest.to_string());
        Ok(self.images().prune(all, dry_run, &in_use)?)
    }

    /// Writes the root filesystem of an image to a file, without booting anything. A reference that can come to mean something else is
    /// refused unless allowed: the file would not say what it was built from.
    pub fn build_rootfs(&self, options: &RootfsOptions) -> Result<Rootfs, Error> {
        let reference: Reference = options.image.parse()?;
        if !reference.is_pinned() && !options.allow_mutable {
            let known = self.images().find(&reference, options.pull.platform)?;
            let pinned = known.map(|image| image.pinned().familiar());
            return Err(image::Error::MutableReference { reference: reference.familiar(), pinned }.into());
        }
        let events = ImageEvents(self.progress());
        let (image, _base) = self.images().ensure(&reference, &options.pull, &events)?;
        let size = options.size_mib.map(|mib| mib << 20);
        let cancellation = &options.pull.cancellation;
        let built = self.images().rootfs_build(&image, &options.out, options.format, size, cancellation, &events)?;
        Ok(Rootfs { path: options.out.clone(), format: built.format, size: built.size, image: image.pinned() })
    }

    /// The manifests workspaces were made from, as they are and as their snapshots have them. A record that cannot be read is an error: what it needs must not be removed.
    fn used_images(&self) -> Result<HashSet<String>, Error> {
        let mut used = HashSet::new();
        for name in self.state().names()? {
            match self.state().find(&name).and_then(|workspace| workspace.record()) {
                Ok(record) => {
                    used.insert(record.image_digest);
                }
                // It went while the list was made, or has not got as far as a record.
                Err(microagent_state::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // What goes on from a snapshot needs the base that was under it then.
        for manifest in self.state().manifests()? {
            used.insert(manifest?.record.image_digest);
        }
        Ok(used)
    }
}
