//! What a layer is on the disk.
//!
//! ```text
//! 0        magic, version, block size, length of the whole file, number of blocks of data, number of runs
//! 4096     the blocks of data, one after the other, in the order in which they are in the whole file
//! then     a run for each stretch of blocks that the layer gives: where, how many, data or zeroes
//! then     the SHA-256 of each MiB of data
//! ```
//!
//! Numbers are little-endian. The name of the layer is the SHA-256 of the header and all that comes after the data, so that a manifest
//! which names a layer vouches for all of it, and a MiB of it can be verified without the rest.
//!
//! SHA-256 is the digest of everything else here, and fast enough where processors have instructions for it: 60 MiB took 52 ms of one. One file
//! rather than two is one file to flush and to rename. Data is packed rather than at the offset it has in the whole file: it is then read and
//! written in large pieces however scattered it was, and nothing has to be told of holes.

use super::{LayerId, path_of};
use crate::Error;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a block.
pub(super) const BLOCK: u64 = 4096;
/// Blocks that have a digest together: 1 MiB of them.
pub(super) const PIECE: u64 = 256;

const MAGIC: [u8; 8] = *b"\x7fmalayer";
const VERSION: u32 = 1;
const HEADER: usize = 40;
const RUN: u64 = 16;
const DIGEST: u64 = 32;
/// Where the data is: at a block, so that it lies well in the page cache.
const DATA_AT: u64 = BLOCK;
/// Largest file that is kept. It is beyond what ext4 can hold, and far from where arithmetic goes wrong.
const MAX_BLOCKS: u64 = 1 << 40;
/// Longest index that is read: that of 16 GiB of which every other block is different.
const MAX_INDEX: u64 = 1 << 26;

/// What a layer says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Data,
    Zero,
}

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) blocks: u32,
    pub(super) content: Content,
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.start + u64::from(self.blocks)
    }
}

/// What is in a layer, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Length of the whole file.
    pub(super) length: u64,
    /// In order, none touching the next of its kind.
    pub(super) runs: Vec<Run>,
    /// Digest of each piece of data.
    pub(super) pieces: Vec<[u8; 32]>,
}

impl Index {
    pub(super) fn data_blocks(&self) -> u64 {
        self.runs.iter().filter(|run| run.content == Content::Data).map(|run| u64::from(run.blocks)).sum()
    }

    fn encode(&self) -> ([u8; HEADER], Vec<u8>) {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        header[16..24].copy_from_slice(&self.length.to_le_bytes());
        header[24..32].copy_from_slice(&self.data_blocks().to_le_bytes());
        header[32..].copy_from_slice(&(self.runs.len() as u64).to_le_bytes());
        let mut body = Vec::with_capacity(self.runs.len() * RUN as usize + self.pieces.len() * DIGEST as usize);
        for run in &self.runs {
            body.extend(run.start.to_le_bytes());
            body.extend(run.blocks.to_le_bytes());
            body.extend(u32::from(run.content == Content::Zero).to_le_bytes());
        }
        self.pieces.iter().for_each(|piece| body.extend(piece));
        (header, body)
    }

    /// Completes a layer whose data is written, and says what it is called.
    pub(super) fn write(&self, file: &File) -> io::Result<LayerId> {
        let (header, body) = self.encode();
        file.write_all_at(&body, data_offset(self.data_blocks()))?;
        file.write_all_at(&header, 0)?;
        Ok(name(&header, &body))
    }
}

/// Where in a layer a block of its data is.
pub(super) fn data_offset(block: u64) -> u64 {
    DATA_AT + block * BLOCK
}

pub(super) fn digest(piece: &[u8]) -> [u8; 32] {
    Sha256::digest(piece).into()
}

fn name(header: &[u8], body: &[u8]) -> LayerId {
    LayerId::of(&Sha256::new().chain_update(header).chain_update(body).finalize())
}

pub(super) fn damaged(layer: &LayerId, reason: impl Into<String>) -> Error {
    Error::LayerDamaged { layer: layer.clone(), reason: reason.into() }
}

pub(super) fn not_opened(layer: &LayerId, path: &Path, error: io::Error) -> Error {
    if error.kind() == ErrorKind::NotFound { damaged(layer, "it is gone") } else { Error::io("open", path)(error) }
}

/// A layer that can be read. Its index is what it was; its data is verified when it is read.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) id: LayerId,
    pub(super) file: File,
    pub(super) index: Index,
}

impl Layer {
    pub(super) fn open(id: &LayerId, path: &Path) -> Result<Layer, Error> {
        // Something that is no file must not make anybody wait for it.
        let options = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
        let file = options.map_err(|error| not_opened(id, path, error))?;
        let metadata = file.metadata().map_err(Error::io("look at", path))?;
        if !metadata.is_file() {
            return Err(damaged(id, "it is no file"));
        }
        let actual = metadata.len();
        let too_short = || damaged(id, format!("it has only {actual} bytes"));
        let mut header = [0; HEADER];
        read(&file, &mut header, 0)?.then_some(()).ok_or_else(too_short)?;
        if header[..8] != MAGIC {
            return Err(damaged(id, "it does not begin as a layer does"));
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if word(8) > VERSION {
            return Err(Error::LayerNewer { layer: id.clone(), version: word(8), ours: VERSION });
        }
        let (length, data, runs) = (long(16), long(24), long(32));
        let body = runs.checked_mul(RUN).and_then(|runs| runs.checked_add(data.div_ceil(PIECE).checked_mul(DIGEST)?));
        let body = body.filter(|&body| body <= MAX_INDEX && data <= MAX_BLOCKS && length <= MAX_BLOCKS * BLOCK);
        let body = body.ok_or_else(|| damaged(id, "its header is damaged"))?;
        let expected = data_offset(data) + body;
        if actual != expected {
            return Err(damaged(id, format!("it has {actual} bytes instead of {expected}")));
        }
        let mut bytes = vec![0; body as usize];
        read(&file, &mut bytes, data_offset(data))?.then_some(()).ok_or_else(too_short)?;
        if name(&header, &bytes) != *id {
            return Err(damaged(id, "its index is not what it was"));
        }
        let index = Index::decode(length, &bytes, runs as usize);
        let sound =
            index.filter(|index| word(8) == VERSION && u64::from(word(12)) == BLOCK && index.data_blocks() == data);
        let index = sound.ok_or_else(|| damaged(id, "its index contradicts itself"))?;
        Ok(Layer { id: id.clone(), file, index })
    }

    /// Reads a piece of its data into `buffer`, which becomes as long as the piece, and verifies it.
    pub(super) fn read_piece(&self, piece: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let first = piece * PIECE;
        let blocks = (self.index.data_blocks() - first).min(PIECE);
        buffer.resize((blocks * BLOCK) as usize, 0);
        let offset = data_offset(first);
        let whole = read(&self.file, buffer, offset)?;
        if whole && digest(buffer) == self.index.pieces[piece as usize] {
            return Ok(());
        }
        Err(damaged(
            &self.id,
            format!("its data between byte {offset} and {} is not what it was", offset + blocks * BLOCK),
        ))
    }
}

impl Index {
    /// `None` when it cannot have been written by this program.
    fn decode(length: u64, body: &[u8], runs: usize) -> Option<Index> {
        let (runs, pieces) = body.split_at(runs * RUN as usize);
        let mut index = Index { length, ..Index::default() };
        let mut end = 0;
        for run in runs.chunks_exact(RUN as usize) {
            let start = u64::from_le_bytes(run[..8].try_into().ok()?);
            let blocks = u32::from_le_bytes(run[8..12].try_into().ok()?);
            let content = match run[12..] {
                [0, 0, 0, 0] => Content::Data,
                [1, 0, 0, 0] => Content::Zero,
                _ => return None,
            };
            if start < end || blocks == 0 || start > MAX_BLOCKS {
                return None;
            }
            end = start + u64::from(blocks);
            index.runs.push(Run { start, blocks, content });
        }
        index.pieces = pieces.chunks_exact(DIGEST as usize).map(|piece| piece.try_into().expect("32 bytes")).collect();
        (end <= length.div_ceil(BLOCK)).then_some(index)
    }
}

/// Fills `buffer` from `offset` on; false when the file ends before.
pub(super) fn read(file: &File, buffer: &mut [u8], offset: u64) -> Result<bool, Error> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(Error::io("read", path_of(file))(source)),
    }
}
