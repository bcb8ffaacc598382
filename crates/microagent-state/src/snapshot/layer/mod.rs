//! Layers: what is different in a big file from what the layers below it give.
//!
//! Blocks of 4096 bytes are compared, because that is what guests change: a page of memory, a block of a file system. A hole and a block of
//! zeroes are the same thing, in what is compared and in what is given back.
//!
//! | module | what it does |
//! |---|---|
//! | `format` | what a layer is on the disk, and whether it still is what it was |
//! | `stack` | which layer of a chain has which block |
//! | `write`, `draft` | find what is different, and write it down |
//! | `materialize` | gives the file back |
//! | `sweep` | removes layers that nobody needs |

mod draft;
mod format;
mod materialize;
mod stack;
mod sweep;
mod write;

pub use sweep::Swept;

use crate::Error;
use crate::dir::make_private;
use format::Layer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// Longest chain that is made. Each layer of a chain is a file to open and a digest to check when it is read.
pub const MAX_CHAIN: usize = 16;

/// Name of a layer: the SHA-256 of its index, which has the digests of its content, in hexadecimal. Two layers of one content are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String);

impl LayerId {
    fn of(digest: &[u8]) -> LayerId {
        LayerId(super::hex(digest))
    }
}

impl TryFrom<String> for LayerId {
    type Error = String;

    fn try_from(id: String) -> Result<LayerId, String> {
        let valid = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if valid { Ok(LayerId(id)) } else { Err(format!("`{id}` names no layer")) }
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> String {
        id.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The layers of a state directory.
#[derive(Clone, Debug)]
pub struct Layers {
    directory: PathBuf,
}

impl Layers {
    pub(crate) fn new(directory: PathBuf) -> Layers {
        Layers { directory }
    }

    /// The right to write layers. It waits while layers are being swept.
    pub fn writing(&self) -> Result<Writing, Error> {
        make_private(&self.directory)?;
        let lock = self.lock()?;
        lock.lock_shared().map_err(Error::io("lock", &self.directory))?;
        Ok(Writing { layers: self.clone(), _lock: lock })
    }

    /// Writes into `into`, in place of whatever it held, the `length` bytes that `chain` (lowest first) gives, with holes where they are
    /// zero. Everything that is used of the layers is verified.
    pub fn materialize(&self, chain: &[LayerId], into: &File, length: u64) -> Result<(), Error> {
        materialize::materialize(&self.open(chain)?, into, length)
    }

    /// What a layer takes on the disk.
    pub fn bytes(&self, id: &LayerId) -> Result<u64, Error> {
        match std::fs::metadata(self.path(id)) {
            Ok(metadata) => Ok(on_disk(&metadata)),
            Err(error) => Err(format::not_opened(id, &self.path(id), error)),
        }
    }

    fn open(&self, chain: &[LayerId]) -> Result<Vec<Layer>, Error> {
        chain.iter().map(|id| Layer::open(id, &self.path(id))).collect()
    }

    fn path(&self, id: &LayerId) -> PathBuf {
        self.directory.join(&id.0)
    }

    /// The lock that writers share and the sweeper has for itself.
    fn lock(&self) -> Result<File, Error> {
        let path = self.directory.join(".lock");
        let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        options.map_err(Error::io("open", &path))
    }
}

/// The right to write layers. As long as somebody has it none is swept, so that it is held until the manifest that names them is
/// published; who reads the layers of a snapshot that may be deleted meanwhile holds it, too.
#[derive(Debug)]
pub struct Writing {
    layers: Layers,
    _lock: File,
}

impl Writing {
    /// Keeps `from`, a sparse file, as what is different in it from what `parents` (lowest first) give, and returns the chain that gives
    /// it back: that of the parents when nothing is different, else one with a new layer on top. It is on the disk when this returns.
    ///
    /// `ranges` are those parts of `from`, in bytes, that may be different; all of it where `None`. The parents only save space: where
    /// the chain would become longer than [`MAX_CHAIN`], only the lowest of them is built on, and none where one of them is missing or
    /// damaged. All of `from` is compared then, whatever `ranges` says.
    pub fn write(
        &self,
        from: &File,
        ranges: Option<&[Range<u64>]>,
        parents: &[LayerId],
    ) -> Result<Vec<LayerId>, Error> {
        let (mut chain, ranges) = if parents.len() < MAX_CHAIN { (parents, ranges) } else { (&parents[..1], None) };
        let (below, ranges) = match self.layers.open(chain) {
            Ok(below) => (below, ranges),
            Err(Error::LayerDamaged { .. } | Error::LayerNewer { .. }) => {
                chain = &[];
                (Vec::new(), None)
            }
            Err(error) => return Err(error),
        };
        let layer = write::write(&self.layers.directory, from, ranges, &below)?;
        Ok(chain.iter().cloned().chain(layer).collect())
    }

    /// The layers.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }
}

/// What a file takes on the disk.
pub(crate) fn on_disk(metadata: &std::fs::Metadata) -> u64 {
    metadata.blocks() * 512
}

/// A path that tells people which file it is.
fn path_of(file: &File) -> PathBuf {
    let link = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    std::fs::read_link(&link).unwrap_or(link)
}

#[cfg(test)]
mod tests;
