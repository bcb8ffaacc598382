//! Docker archives, as `docker save` and its imitators write them.

use serde::Deserialize;

use crate::config::ConfigDocument;
use crate::manifest::{Descriptor, MAX_DOCUMENT, Manifest, OCI_CONFIG};
use crate::rootfs::Compression;
use crate::source::Resolved;
use crate::{Digest, Error, ImportOptions, ImportSource, Reference};

use super::archive::Archive;
use super::extent::Extent;
use super::{Extents, invalid, layer_type};

/// One image of the archive: an entry of its `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Entry {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

/// Chooses the image, and makes the manifest it comes without.
pub(super) fn resolve(
    archive: &Archive,
    source: &ImportSource,
    options: &ImportOptions,
) -> Result<(Resolved, Extents), Error> {
    let what = format!("`{}`", source.path.display());
    let missing = |name: &str| Error::InconsistentImage {
        what: what.clone(),
        reason: format!("its entry `{}` is missing", crate::error::quoted(name)),
    };
    let extent = |name: &str| archive.extent(name).ok_or_else(|| missing(name));
    let list: Vec<Entry> = serde_json::from_slice(&extent("manifest.json")?.read(MAX_DOCUMENT)?)
        .map_err(|source| Error::InvalidManifest { what: format!("`manifest.json` of {what}"), source })?;
    let (entry, recorded) = choose(&list, source)?;
    let reference = match (&options.name, recorded) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name,
        (None, None) => return Err(Error::UnnamedImport { path: source.path.clone() }),
    };
    let config_bytes = extent(&entry.config)?.read(MAX_DOCUMENT)?;
    let config = ConfigDocument::parse(&config_bytes, &what)?;
    if config.diff_ids.len() != entry.layers.len() {
        let reason = format!("it lists {} layers and its config {}", entry.layers.len(), config.diff_ids.len());
        return Err(Error::InconsistentImage { what, reason });
    }
    let mut extents = Extents::new();
    let mut layers = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(&config.diff_ids) {
        let extent = extent(name)?;
        let layer = describe(&extent, diff_id)?;
        extents.insert(layer.digest.clone(), extent);
        layers.push(layer);
    }
    let config_descriptor = Descriptor::new(OCI_CONFIG, Digest::of(&config_bytes), config_bytes.len() as u64);
    let manifest = Manifest::synthesise(config_descriptor, layers);
    Ok((Resolved::made(reference, options.platform, manifest, config_bytes)?, extents))
}

/// The image of the given name, or the only one; and its name, if it has exactly one or that one was asked for.
fn choose<'a>(list: &'a [Entry], source: &ImportSource) -> Result<(&'a Entry, Option<Reference>), Error> {
    let Some(wanted) = &source.image else {
        return match list {
            [] => Err(invalid(&source.path, "it holds no image")),
            [only] => Ok((only, only.tags().first().map(|tag| tag.parse()).transpose()?)),
            _ => Err(Error::AmbiguousImport { path: source.path.clone(), names: names(list) }),
        };
    };
    let wanted: Reference = wanted.parse()?;
    let is_wanted =
        |entry: &&Entry| entry.tags().iter().any(|tag| tag.parse::<Reference>().is_ok_and(|tag| tag == wanted));
    let Some(entry) = list.iter().find(is_wanted) else {
        let reason = format!("it holds no image named `{}`; it holds {}", wanted.familiar(), names(list));
        return Err(invalid(&source.path, &reason));
    };
    Ok((entry, Some(wanted)))
}

fn names(list: &[Entry]) -> String {
    const SHOWN: usize = 16;
    let names = list.iter().flat_map(Entry::tags).take(SHOWN);
    let names: Vec<String> = names.map(|name| format!("`{}`", crate::error::quoted(name))).collect();
    if names.is_empty() { "images without names".to_owned() } else { names.join(", ") }
}

/// The descriptor of a layer. An uncompressed one is its own tar, so its diff id is its digest; that it is the true one
/// is verified with every other digest when the layer is read.
fn describe(extent: &Extent, diff_id: &Digest) -> Result<Descriptor, Error> {
    let compression = extent.compression()?;
    let digest = if compression == Compression::None { diff_id.clone() } else { extent.digest()? };
    Ok(Descriptor::new(layer_type(compression), digest, extent.length()))
}
