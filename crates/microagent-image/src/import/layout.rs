//! OCI layouts, as a directory or as an archive.

use std::path::PathBuf;

use serde::Deserialize;

use crate::manifest::{Descriptor, Document, MAX_DOCUMENT, Manifest};
use crate::source::Resolved;
use crate::{Digest, Error, ImportOptions, ImportSource, Reference};

use super::archive::Archive;
use super::extent::Extent;
use super::{Extents, invalid};

/// The name or tag an image was saved under.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name, where the tool that saved the image knows the difference.
const FULL_NAME: &str = "io.containerd.image.name";
const MAX_INDEX_DEPTH: usize = 3;

/// The files of a layout.
pub(super) enum Files {
    Directory(PathBuf),
    Archive(Archive),
}

impl Files {
    /// `name` is a constant, or made of a digest.
    fn extent(&self, name: &str) -> Result<Option<Extent>, Error> {
        match self {
            Files::Archive(archive) => Ok(archive.extent(name)),
            Files::Directory(directory) => {
                let path = directory.join(name);
                if path.exists() { Extent::whole(&path).map(Some) } else { Ok(None) }
            }
        }
    }

    fn blob(&self, digest: &Digest, what: &str) -> Result<Extent, Error> {
        let name = format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
        let missing =
            || Error::InconsistentImage { what: what.to_owned(), reason: format!("its blob `{digest}` is missing") };
        self.extent(&name)?.ok_or_else(missing)
    }

    /// A manifest, index or config, verified.
    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.blob(&descriptor.digest, what)?.read(MAX_DOCUMENT)?;
        if descriptor.digest.matches(&bytes) {
            return Ok(bytes);
        }
        let (expected, found) = (descriptor.digest.clone(), Digest::of(&bytes));
        Err(Error::DigestMismatch { what: format!("a document of {what}"), expected, found })
    }
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
struct TopIndex {
    manifests: Vec<Descriptor>,
}

/// Chooses the image and reads all of it but its layers.
pub(super) fn resolve(
    files: &Files,
    source: &ImportSource,
    options: &ImportOptions,
) -> Result<(Resolved, Extents), Error> {
    let what = format!("`{}`", source.path.display());
    check_marker(files, source)?;
    let index = files.extent("index.json")?.ok_or_else(|| invalid(&source.path, "it has no `index.json`"))?;
    let index: TopIndex = serde_json::from_slice(&index.read(MAX_DOCUMENT)?)
        .map_err(|source| Error::InvalidManifest { what: format!("`index.json` of {what}"), source })?;
    let top = choose(&index.manifests, source, options, &what)?;
    let reference = match &options.name {
        Some(name) => name.clone(),
        None => recorded_name(top, source)?,
    };
    let (manifest, descriptor, index_digest) = descend(files, top, options, &what)?;
    let config_bytes = files.document(&manifest.config, &what)?;
    let mut extents = Extents::new();
    for layer in &manifest.layers {
        extents.insert(layer.digest.clone(), files.blob(&layer.digest, &what)?);
    }
    let manifest_bytes = files.document(&descriptor, &what)?;
    let digest = descriptor.digest;
    let resolved =
        Resolved::new(reference, options.platform, manifest_bytes, digest, index_digest, manifest, config_bytes)?;
    Ok((resolved, extents))
}

fn check_marker(files: &Files, source: &ImportSource) -> Result<(), Error> {
    let marker = files.extent("oci-layout")?.ok_or_else(|| invalid(&source.path, "it has no `oci-layout`"))?;
    let marker = serde_json::from_slice::<Marker>(&marker.read(MAX_DOCUMENT)?);
    match marker {
        Ok(marker) if marker.version.starts_with("1.") => Ok(()),
        _ => Err(invalid(&source.path, "its `oci-layout` does not name version 1")),
    }
}

/// The entry the user means: the one of the given name, the only one, or the only one for the platform.
fn choose<'a>(
    entries: &'a [Descriptor],
    source: &ImportSource,
    options: &ImportOptions,
    what: &str,
) -> Result<&'a Descriptor, Error> {
    let wanted = source.image.as_deref();
    let is_wanted = |entry: &&Descriptor| {
        wanted.is_none_or(|wanted| [REF_NAME, FULL_NAME].iter().any(|key| entry.annotation(key) == Some(wanted)))
    };
    let named: Vec<&Descriptor> = entries.iter().filter(is_wanted).collect();
    match named.as_slice() {
        [] => Err(invalid(
            &source.path,
            &match wanted {
                Some(wanted) => format!("it holds no image named `{wanted}`; it holds {}", names(entries)),
                None => "it holds no image".to_owned(),
            },
        )),
        [only] => Ok(only),
        several => {
            // Without names, several entries are the platforms of one image.
            if several.iter().all(|entry| entry.annotation(REF_NAME) == several[0].annotation(REF_NAME)) {
                let index = crate::manifest::Index { manifests: several.iter().copied().cloned().collect() };
                let digest = index.choose(options.platform, what)?.digest.clone();
                return several
                    .iter()
                    .copied()
                    .find(|entry| entry.digest == digest)
                    .ok_or_else(|| invalid(&source.path, "it holds no image"));
            }
            Err(Error::AmbiguousImport { path: source.path.clone(), names: names(entries) })
        }
    }
}

fn names(entries: &[Descriptor]) -> String {
    const SHOWN: usize = 16;
    let names = entries.iter().filter_map(|entry| entry.annotation(REF_NAME)).take(SHOWN);
    let names: Vec<String> = names.map(|name| format!("`{}`", crate::error::quoted(name))).collect();
    if names.is_empty() { "images without names".to_owned() } else { names.join(", ") }
}

/// The name an entry records. A bare tag is not a name.
fn recorded_name(entry: &Descriptor, source: &ImportSource) -> Result<Reference, Error> {
    let recorded =
        entry.annotation(FULL_NAME).or_else(|| entry.annotation(REF_NAME).filter(|name| name.contains(['/', ':'])));
    match recorded.map(str::parse) {
        Some(parsed) => parsed,
        None => Err(Error::UnnamedImport { path: source.path.clone() }),
    }
}

/// Follows indexes from `top` to the manifest for the platform.
fn descend(
    files: &Files,
    top: &Descriptor,
    options: &ImportOptions,
    what: &str,
) -> Result<(Manifest, Descriptor, Option<Digest>), Error> {
    let mut descriptor = top.clone();
    let mut index_digest = None;
    for _ in 0..=MAX_INDEX_DEPTH {
        let bytes = files.document(&descriptor, what)?;
        match Document::parse(&bytes, Some(&descriptor.media_type), what)? {
            Document::Image(manifest) => return Ok((*manifest, descriptor, index_digest)),
            Document::Index(index) => {
                index_digest.get_or_insert(descriptor.digest);
                descriptor = index.choose(options.platform, what)?.clone();
            }
        }
    }
    let (limit, found) = (MAX_INDEX_DEPTH as u64, MAX_INDEX_DEPTH as u64 + 1);
    Err(Error::LimitExceeded { what: format!("nested indexes in {what}"), limit, found })
}
