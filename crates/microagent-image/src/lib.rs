//! OCI images: references, registry client, layers, base images, the local store.
//!
//! An image is a stack of layers in a registry or an archive. A machine needs one read-only root filesystem. This crate
//! is everything between the two, and knows nothing of machines: it turns a [`Reference`] into a [`BaseImage`].
//!
//! Start from three types. A [`Reference`] is the name of an image, with the defaults people expect. An [`ImageStore`]
//! holds images on disk, shared by any number of processes without a daemon. [`ImageStore::ensure`] gives an [`Image`],
//! which says how it wants to be run, and its [`BaseImage`], the file to attach:
//!
//! ```no_run
//! use microagent_image::{ImageStore, PullOptions, Silent};
//!
//! let store = ImageStore::open("/home/me/.microagent/images");
//! let (image, base) = store.ensure(&"alpine:3".parse()?, &PullOptions::default(), &Silent)?;
//! println!("attach {} and run {:?}", base.path.display(), image.config.cmd);
//! # Ok::<(), microagent_image::Error>(())
//! ```
//!
//! | call | what it does |
//! |---|---|
//! | [`ImageStore::ensure`] | find or pull an image and have its base; with an image that is there, a few file reads |
//! | [`ImageStore::find`], [`ImageStore::base`] | only look, never fetch |
//! | [`ImageStore::import`] | take an image from an OCI layout, an archive or a root filesystem tar |
//! | [`ImageStore::commit`] | make an image of another one and a layer on top of it |
//! | [`ImageStore::push`] | send an image to a registry |
//! | [`ImageStore::list`], [`ImageStore::lookup`], [`ImageStore::tag`] | names |
//! | [`ImageStore::remove`], [`ImageStore::prune`], [`ImageStore::collect_garbage`], [`ImageStore::disk_usage`] | space |
//! | [`ImageStore::rootfs_build`] | write the root filesystem to a file of one's own |
//!
//! Calls block. What takes long reports to a [`Progress`] and stops when its [`Cancellation`] is turned on. Every failure
//! is an [`Error`], which says what to do about it through [`Fault`](microagent_protocol::Fault).
//!
//! Whatever comes from a registry or archive is hostile until verified: documents are bounded before they are parsed,
//! content is hashed while it arrives and cut off at its announced size, and no file is ever named by text that is not a
//! validated [`Digest`].

mod cancel;
mod commit;
mod config;
mod digest;
mod error;
mod image;
mod import;
mod manifest;
mod platform;
mod progress;
mod reference;
mod registry;
pub mod rootfs;
mod source;
mod store;

pub use cancel::Cancellation;
pub use commit::{Commit, ConfigChanges, LayerCompression};
pub use config::ImageConfig;
pub use digest::{Algorithm, Digest};
pub use error::Error;
pub use image::{BaseFormat, BaseImage, BaseRecord, Contents, Image, Layer};
pub use import::{ImportFormat, ImportOptions, ImportSource};
pub use manifest::{MAX_DOCUMENT, MAX_LAYERS};
pub use platform::{Architecture, Platform};
pub use progress::{Event, Progress, Silent};
pub use reference::Reference;
pub use store::{
    BuiltRootfs, DiskUsage, ImageStore, ImageSummary, InUse, Pruned, PullOptions, PullPolicy, PushOptions, Pushed,
    Removed,
};

/// Parses a manifest or index and tells only whether it is acceptable. The parser has no other public face, and fuzzing
/// needs one.
#[doc(hidden)]
pub fn check_manifest(bytes: &[u8]) -> Result<(), Error> {
    manifest::Document::parse(bytes, None, "the document").map(drop)
}
