//! Where the bytes of a regular file are: in one layer, in one piece or in pieces with holes between.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Error;

pub(super) use microagent_tar::{Content, Extent};

/// Memory that the map of a file takes.
pub(super) fn map_bytes(content: &Content) -> usize {
    match content {
        Content::Dense { .. } => 0,
        Content::Sparse(extents) => size_of_val(&**extents),
    }
}

/// Fills `buffer` from `position` of a layer, which must still hold what it held when it was read.
pub(super) fn read_layer(layer: &File, buffer: &mut [u8], position: u64) -> Result<(), Error> {
    layer.read_exact_at(buffer, position).map_err(Error::ReadLayer)
}
