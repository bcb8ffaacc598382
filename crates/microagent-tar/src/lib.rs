//! Tar streams in and out of a directory tree.
//!
//! Files travel between a host and its guests as tar archives, and images are made of them. This crate is both ends of that, inside the
//! guest and outside:
//!
//! - [`Archive`] reads: every dialect in use, one [`Entry`] at a time, from a file ([`FileSource`]) or as it arrives ([`StreamSource`]).
//! - [`Writer`] writes: pax, with everything a Linux file has.
//! - [`unpack`] makes files of an archive. Archives are hostile until proved otherwise: nothing outside of the directory is touched,
//!   whatever the archive holds and whatever happens in the directory meanwhile. [`UnpackOptions::default`] is what a host should grant
//!   the archive of a guest.
//! - [`pack`] and [`Packer`] make an archive of files.
//!
//! It knows nothing of machines or images, starts no thread, and asks nothing of its caller's privileges.
//!
//! ```
//! use std::fs::{self, File};
//!
//! # let scratch = tempfile::tempdir()?;
//! # let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
//! fs::create_dir(&from)?;
//! fs::create_dir(&to)?;
//! fs::write(from.join("hello"), "hello")?;
//!
//! let mut archive = Vec::new();
//! microagent_tar::pack(&from, b".", false, &mut archive)?;
//! let unpacked = microagent_tar::unpack(File::open(&to)?, &archive[..], &Default::default())?;
//! assert_eq!(unpacked.entries, 1);
//! assert_eq!(fs::read(to.join("hello"))?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod attributes;
mod error;
mod limits;
mod pack;
mod path;
mod unpack;
mod writer;

pub use archive::{Archive, Content, Entry, EntryKind, Extent, FileSource, Metadata, Source, StreamSource};
pub use attributes::AttributeReader;
pub use error::{ArchiveError, Error, printable};
pub use limits::Limits;
pub use pack::{Packed, Packer, pack};
pub use path::split;
pub use unpack::{Ownership, UnpackOptions, Unpacked, unpack};
pub use writer::{Kind, Writer};
