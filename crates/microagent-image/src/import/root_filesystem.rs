//! A tar of a root filesystem: one layer, and a config made from options.

use crate::manifest::{Descriptor, Manifest, OCI_CONFIG};
use crate::rootfs::Unpacked;
use crate::source::Resolved;
use crate::{Digest, Error, ImportOptions, ImportSource, config};

use super::extent::Extent;
use super::{Extents, layer_type};

/// Makes the image. `unpacked` is what came of unpacking the file, if it is compressed.
pub(super) fn resolve(
    unpacked: Option<&Unpacked>,
    source: &ImportSource,
    options: &ImportOptions,
) -> Result<(Resolved, Extents), Error> {
    let reference = options.name.clone().ok_or_else(|| Error::UnnamedImport { path: source.path.clone() })?;
    let extent = Extent::whole(&source.path)?;
    let digest = extent.digest()?;
    let diff_id = match unpacked {
        Some(unpacked) => unpacked.diff_id.parse()?,
        None => digest.clone(),
    };
    let config_bytes = config::synthesise(&options.config, options.platform, &[diff_id]);
    let config = Descriptor::new(OCI_CONFIG, Digest::of(&config_bytes), config_bytes.len() as u64);
    let layer = Descriptor::new(layer_type(extent.compression()?), digest.clone(), extent.length());
    let resolved =
        Resolved::made(reference, options.platform, Manifest::synthesise(config, vec![layer]), config_bytes)?;
    Ok((resolved, Extents::from([(digest, extent)])))
}
