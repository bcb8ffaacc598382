//! Where the bytes of a regular file are: in one layer, in one piece or in pieces with holes between.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Error;

/// A piece of a sparse file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it belongs in the file.
    pub(super) start: u64,
    pub(super) length: u64,
    /// Where it is in the layer.
    pub(super) source: u64,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// The data of a regular file, as positions in its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Every byte, from this position on.
    Dense { source: u64 },
    /// The pieces that are not holes: in order, not touching, not empty, inside the file.
    Sparse(Box<[Extent]>),
}

impl Content {
    /// Memory its map takes.
    pub(super) fn map_bytes(&self) -> usize {
        match self {
            Content::Dense { .. } => 0,
            Content::Sparse(extents) => size_of_val(&**extents),
        }
    }
}

/// Fills `buffer` from `position` of a layer, which must still hold what it held when it was read.
pub(super) fn read_layer(layer: &File, buffer: &mut [u8], position: u64) -> Result<(), Error> {
    layer.read_exact_at(buffer, position).map_err(Error::ReadLayer)
}
