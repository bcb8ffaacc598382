//! Images that come as files instead of from a registry.
//!
//! Four kinds are taken, told apart by their content: an OCI layout directory, the same as a tar (an OCI archive), what
//! `docker save` writes (a Docker archive), and a plain tar of a root filesystem. Each is reduced to a
//! [`Resolved`](crate::source::Resolved) image and a source of its blobs, and from there on nothing distinguishes it from a pulled one: the same
//! verification, the same blobs, the same base. Archives may be compressed with gzip or zstd.
//!
//! Names inside an archive are keys to look up, never paths to open.

mod archive;
mod docker;
mod extent;
mod layout;
mod location;
mod root_filesystem;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::rootfs::{Compression, Limits, Unpacked, decompress};
use crate::source::{Sink, Source};
use crate::{BaseImage, Cancellation, Digest, Error, Image, ImageConfig, ImageStore, Platform, Reference};

use archive::Archive;
use extent::Extent;
pub use location::{ImportFormat, ImportSource};

/// How to import an image.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The name the image gets. Without it, the name it records.
    pub name: Option<Reference>,
    /// The platform to import from an image for several; what a root filesystem is taken to be for.
    pub platform: Platform,
    /// How a root filesystem wants to be run. Other formats bring their own config and refuse one from here.
    pub config: ImageConfig,
    /// Stops the work when turned on; the error is then [`Error::Cancelled`].
    pub cancellation: Cancellation,
}

impl ImageStore {
    /// Takes an image from a file or directory.
    pub fn import(
        &self,
        source: &ImportSource,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<(Image, BaseImage), Error> {
        options.cancellation.check()?;
        self.prepare()?;
        let opened = self.open_import(source)?;
        if options.config != ImageConfig::default() && !matches!(opened, Opened::RootFilesystem { .. }) {
            let reason =
                "it brings its own config; a command, environment or user can be set for root filesystems only";
            return Err(invalid(&source.path, reason));
        }
        let (resolved, extents) = match opened {
            Opened::Layout(files) => layout::resolve(&files, source, options)?,
            Opened::DockerArchive(archive) => docker::resolve(&archive, source, options)?,
            Opened::RootFilesystem { unpacked } => root_filesystem::resolve(unpacked.as_ref(), source, options)?,
        };
        self.admit(&resolved, &Blobs { extents, progress }, &options.cancellation, progress)
    }

    /// Finds out what is at the path, and whether it is what it was said to be.
    fn open_import(&self, source: &ImportSource) -> Result<Opened, Error> {
        let path = &source.path;
        let metadata = path.metadata().map_err(Error::io("opening", path))?;
        if metadata.is_dir() {
            return match source.format {
                None | Some(ImportFormat::OciLayout) => Ok(Opened::Layout(layout::Files::Directory(path.clone()))),
                Some(_) => Err(invalid(path, "it is a directory and not an archive")),
            };
        }
        if !metadata.is_file() || source.format == Some(ImportFormat::OciLayout) {
            return Err(invalid(path, "an OCI layout is a directory, and every other format a file"));
        }
        let (tar, unpacked) = self.open_tar(path)?;
        if source.format == Some(ImportFormat::RootFilesystem) {
            return Ok(Opened::RootFilesystem { unpacked });
        }
        let archive = Archive::index(tar, path)?;
        let found = match &archive {
            Some(archive) if archive.contains("oci-layout") => ImportFormat::OciArchive,
            Some(archive) if archive.contains("manifest.json") => ImportFormat::DockerArchive,
            _ => ImportFormat::RootFilesystem,
        };
        // What Docker itself saves today is both.
        let wanted = source.format.unwrap_or(found);
        match (wanted, archive) {
            (ImportFormat::RootFilesystem, _) => Ok(Opened::RootFilesystem { unpacked }),
            (ImportFormat::OciArchive, Some(archive)) if found == wanted => {
                Ok(Opened::Layout(layout::Files::Archive(archive)))
            }
            (ImportFormat::DockerArchive, Some(archive)) if archive.contains("manifest.json") => {
                Ok(Opened::DockerArchive(archive))
            }
            _ => Err(invalid(path, &format!("it is no {}", wanted.describe()))),
        }
    }

    /// The file as a plain tar: itself, or unpacked into a file without a name.
    fn open_tar(&self, path: &Path) -> Result<(File, Option<Unpacked>), Error> {
        let file = File::open(path).map_err(Error::io("opening", path))?;
        if !extent::is_compressed(&file).map_err(Error::io("reading", path))? {
            return Ok((file, None));
        }
        let directory = self.work();
        let tar = tempfile::tempfile_in(&directory).map_err(Error::io("creating a file in", &directory))?;
        let unpacked = decompress(&file, &tar, &Limits::default())?;
        Ok((tar, Some(unpacked)))
    }
}

/// What was found at the path to import.
enum Opened {
    Layout(layout::Files),
    DockerArchive(Archive),
    /// With what came of unpacking it, if it is compressed.
    RootFilesystem {
        unpacked: Option<Unpacked>,
    },
}

/// Where the blobs of an import are.
type Extents = BTreeMap<Digest, Extent>;

/// The layers of an import as a source.
struct Blobs<'a> {
    extents: Extents,
    progress: &'a dyn Progress,
}

impl Source for Blobs<'_> {
    fn fetch(&self, descriptor: &Descriptor, sink: &mut dyn Sink, cancellation: &Cancellation) -> Result<(), Error> {
        let digest = &descriptor.digest;
        let what = || format!("layer `{}`", digest.short());
        let Some(extent) = self.extents.get(digest) else {
            return Err(Error::InconsistentImage { what: what(), reason: "it is missing".to_owned() });
        };
        let (expected, found) = (descriptor.size, extent.length());
        if expected != found {
            return Err(Error::SizeMismatch { what: what(), expected, found });
        }
        extent.read_from(sink.received(), &mut |bytes| {
            cancellation.check()?;
            sink.accept(bytes)?;
            self.progress.event(Event::Layer { digest, done: sink.received(), total: expected });
            Ok(())
        })
    }
}

/// The media type that says how a layer is compressed.
fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => crate::manifest::OCI_LAYER,
        Compression::Gzip => crate::manifest::OCI_LAYER_GZIP,
        Compression::Zstd => crate::manifest::OCI_LAYER_ZSTD,
    }
}

fn invalid(path: &Path, reason: &str) -> Error {
    Error::InvalidImport { path: path.to_owned(), reason: reason.to_owned() }
}
