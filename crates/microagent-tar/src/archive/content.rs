//! Where the bytes of a regular file are: in one piece or in pieces with holes between.

/// A piece of a sparse file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it belongs in the file.
    pub start: u64,
    /// Bytes of it.
    pub length: u64,
    /// Where it is in the archive.
    pub source: u64,
}

impl Extent {
    /// The first byte of the file past it.
    pub fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// The data of a regular file, as positions in its archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Every byte, from this position on.
    Dense {
        /// The position of the first.
        source: u64,
    },
    /// The pieces that are not holes: in order in file and archive, not touching, not empty, inside the file.
    Sparse(Box<[Extent]>),
}
