//! Layers in, one root filesystem image out: no root, no mount, no staging directory.
//!
//! An OCI image is a stack of tar archives. Turning it into a disk a guest can mount takes three steps, and each has one
//! entry point here:
//!
//! 1. [`decompress()`] turns a layer as a registry serves it (gzip, zstd or plain) into a tar file on disk, and computes
//!    its diff id on the way.
//! 2. [`Tree::apply`] reads each tar in order and merges it into one tree in memory, by the rules of the OCI image
//!    specification: whiteouts, opaque directories, implicit parents, hard links across layers. The tree holds names and
//!    metadata only; the bytes of a file stay in its layer, as an offset.
//! 3. [`write_erofs`] or [`write_ext4`] walks the tree and writes an image, copying file bytes straight from the layers.
//!    [`Tree::summary`] says what is in it.
//!
//! Beside them stands [`format_blank_ext4`]: the empty disk a workspace writes to, made in about a millisecond.
//! [`format_empty_ext4`] makes one without a workspace's directories, [`write_bundle`] one with the contents of an archive,
//! and [`probe_ext4`] tells whether a file is one.
//!
//! Layers are hostile until proved otherwise. Everything in them is bytes, nothing is ever opened by a name a layer
//! chose, no path leaves the tree, and [`Limits`] bounds what a small download can make this process do; an [`Error`]
//! names the limit it hit and what it found.
//!
//! ```no_run
//! use microagent_image::rootfs::{Limits, Tree, decompress, write_erofs};
//! use std::fs::File;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limits = Limits::default();
//! let layer = File::options().read(true).write(true).create_new(true).open("layer.tar")?;
//! let unpacked = decompress(File::open("layer.tar.gz")?, &layer, &limits)?;
//! assert!(unpacked.diff_id.starts_with("sha256:"));
//!
//! let mut tree = Tree::new(limits);
//! tree.apply(&layer)?;
//! let written = write_erofs(&tree, &File::create("base.erofs")?)?;
//! println!("{} files in {} bytes", tree.summary().files, written.bytes);
//! # Ok(())
//! # }
//! ```
//!
//! A build can be watched and stopped: [`write_erofs_observed`] and [`write_ext4_observed`] report every stretch of bytes
//! they place to an [`Observer`], which may answer `Break`. [`decompress()`] is stopped by its input returning an error.

mod bundle;
mod content;
mod crc32c;
mod decompress;
mod erofs;
mod error;
mod ext4;
mod limits;
mod linux;
mod output;
mod path;
mod tree;

pub use bundle::write_bundle;
pub use decompress::{Compression, Unpacked, decompress};
pub use erofs::{write_erofs, write_erofs_observed};
pub use error::Error;
pub use ext4::{
    Ext4Info, format_blank_ext4, format_empty_ext4, format_with_mke2fs, probe_ext4, write_ext4, write_ext4_observed,
};
pub use limits::Limits;
pub use output::{Observer, Written};
pub use tree::{Summary, Tree};
