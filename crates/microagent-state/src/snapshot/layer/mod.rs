//! Layers.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

/// Longest chain that is made. Each layer of a chain is a file to open and a digest to check when it is read.
pub const MAX_CHAIN: usize = 16;

/// Name of a layer: the SHA-256 of its index, which has the digests of its content, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String);

impl TryFrom<String> for LayerId {
    type Error = String;

    fn try_from(id: String) -> Result<LayerId, String> {
        let valid = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if valid { Ok(LayerId(id)) } else { Err(format!("`{id}` is no layer")) }
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
        todo!()
    }

    /// Writes into `into`, in place of whatever it held, the `length` bytes that `chain` (lowest first) gives, with holes where they are
    /// zero. Everything that is used of the layers is verified.
    pub fn materialize(&self, chain: &[LayerId], into: &File, length: u64) -> Result<(), Error> {
        let _ = (chain, into, length);
        todo!()
    }

    /// What a layer takes on the disk.
    pub fn bytes(&self, id: &LayerId) -> Result<u64, Error> {
        let _ = id;
        todo!()
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
    /// it back: that of the parents when nothing is different, else one with a new layer on top.
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
        let _ = (&self.layers, from, ranges, parents);
        todo!()
    }
}
