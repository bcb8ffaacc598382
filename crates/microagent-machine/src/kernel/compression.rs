//! Every compression a kernel, a module or a package payload comes in, behind one reader.
//!
//! The format is told by its magic number, never by a file name. Decoders are capped by whoever reads them
//! ([`read_at_most`]); memory for dictionaries is capped here.

use std::io::{self, BufRead, Read};
use std::path::Path;

use super::{Error, Result};

/// The most memory a decoder may take for its dictionary. Kernels built with `xz` or `zstd --ultra -22` use 128 MiB.
const DICTIONARY_LIMIT_KIB: u32 = 192 << 10;

/// The block size of the legacy LZ4 format, which it does not write down.
const LZ4_BLOCK: usize = 8 << 20;

/// Magic numbers, longest first where one begins like another.
const MAGICS: [(&[u8], Format); 7] = [
    (b"\xfd7zXZ\0", Format::Xz),
    (b"\x28\xb5\x2f\xfd", Format::Zstd),
    (b"\x02\x21\x4c\x18", Format::Lz4Legacy),
    (b"\x1f\x8b", Format::Gzip),
    (b"BZh", Format::Bzip2),
    (b"\x89LZO", Format::Lzo),
    (b"\x5d\x00\x00", Format::Lzma),
];

/// How some bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Stored,
    Gzip,
    Xz,
    Lzma,
    Zstd,
    Lz4Legacy,
    Bzip2,
    Lzo,
}

impl Format {
    /// The format of data that begins with `start`; [`Format::Stored`] if it looks like none.
    pub(super) fn detect(start: &[u8]) -> Format {
        MAGICS.iter().find(|(magic, _)| start.starts_with(magic)).map_or(Format::Stored, |&(_, format)| format)
    }

    /// Its name, if it is one that is recognised and not decoded.
    pub(super) fn unsupported(self) -> Option<&'static str> {
        match self {
            Format::Bzip2 => Some("bzip2-compressed"),
            Format::Lzo => Some("lzo-compressed"),
            _ => None,
        }
    }
}

/// Decompresses `input`, or passes it through if it is not compressed.
pub(super) fn reader<'a>(mut input: impl BufRead + 'a, path: &Path) -> Result<Box<dyn Read + 'a>> {
    let format = Format::detect(input.fill_buf().map_err(Error::reading(path))?);
    if let Some(format) = format.unsupported() {
        return Err(Error::UnsupportedFormat { path: path.to_owned(), format });
    }
    Ok(match format {
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, DICTIONARY_LIMIT_KIB)),
        Format::Lzma => Box::new(
            lzma_rust2::LzmaReader::new_mem_limit(input, DICTIONARY_LIMIT_KIB, None).map_err(Error::reading(path))?,
        ),
        Format::Zstd => Box::new(zstd::Decoder::with_buffer(input).map_err(Error::reading(path))?),
        Format::Lz4Legacy => Box::new(Lz4LegacyReader::new(input)),
        Format::Stored | Format::Bzip2 | Format::Lzo => Box::new(input),
    })
}

/// Decompresses `bytes`, which came from `path`, to at most `limit` bytes.
pub(super) fn decompress(bytes: &[u8], limit: u64, path: &Path) -> Result<Vec<u8>> {
    read_at_most(reader(bytes, path)?, limit, path)
}

/// Reads all of `input`, which is or comes from `path`; more than `limit` bytes are an error.
pub(super) fn read_at_most(input: impl Read, limit: u64, path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    input.take(limit + 1).read_to_end(&mut content).map_err(Error::reading(path))?;
    if content.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit, unit: "bytes" });
    }
    Ok(content)
}

/// The LZ4 format kernels use: a magic number, then blocks of at most [`LZ4_BLOCK`] bytes, each after its own
/// compressed size. It has no end mark, so its end is the end of the input.
struct Lz4LegacyReader<R> {
    input: R,
    block: Vec<u8>,
    read: usize,
    started: bool,
}

impl<R: Read> Lz4LegacyReader<R> {
    fn new(input: R) -> Self {
        Lz4LegacyReader { input, block: Vec::new(), read: 0, started: false }
    }

    /// Decodes the next block. `Ok(false)` at the end of the input.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.started {
            let mut magic = [0; 4];
            self.input.read_exact(&mut magic)?;
            self.started = true;
        }
        let mut size = Vec::with_capacity(4);
        (&mut self.input).take(4).read_to_end(&mut size)?;
        let size = match <[u8; 4]>::try_from(size.as_slice()) {
            Ok(bytes) => u32::from_le_bytes(bytes) as usize,
            Err(_) if size.is_empty() => return Ok(false),
            Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        // Incompressible data grows by one byte in 255.
        if size > LZ4_BLOCK + LZ4_BLOCK / 255 + 16 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an lz4 block claims more than 8 MiB"));
        }
        let mut compressed = Vec::with_capacity(size);
        (&mut self.input).take(size as u64).read_to_end(&mut compressed)?;
        if compressed.len() < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.block.resize(LZ4_BLOCK, 0);
        let length = lz4_flex::block::decompress_into(&compressed, &mut self.block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.block.truncate(length);
        self.read = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Lz4LegacyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.read);
        buffer[..count].copy_from_slice(&self.block[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"the same twenty bytes, the same twenty bytes, the same twenty bytes";

    fn at(name: &str) -> &Path {
        Path::new(name)
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = zstd::encode_all(io::repeat(0).take(64 << 20), 19).unwrap();
        assert!(bomb.len() < 64 << 10);
        let error = decompress(&bomb, 1 << 20, at("bomb.zst")).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 1_048_576, .. }), "{error}");
    }

    #[test]
    fn every_truncation_of_an_lz4_payload_is_an_error_or_a_prefix() {
        let block = lz4_flex::block::compress(TEXT);
        let mut framed = b"\x02\x21\x4c\x18".to_vec();
        framed.extend((block.len() as u32).to_le_bytes());
        framed.extend(&block);
        assert_eq!(decompress(&framed, 1000, at("whole")).unwrap(), TEXT);
        for length in 4..framed.len() {
            match decompress(&framed[..length], 1000, at("cut")) {
                Ok(content) => assert!(content.is_empty() && length == 4),
                Err(error) => assert!(matches!(error, Error::Damaged { .. }), "{length}: {error}"),
            }
        }
    }

    #[test]
    fn an_lz4_block_cannot_claim_more_than_the_format_allows() {
        let mut framed = b"\x02\x21\x4c\x18".to_vec();
        framed.extend(u32::MAX.to_le_bytes());
        let error = decompress(&framed, 1000, at("huge")).unwrap_err();
        assert!(error.to_string().contains("claims more than 8 MiB"), "{error}");
    }

    #[test]
    fn a_format_that_is_recognised_and_not_decoded_is_named() {
        let error = decompress(b"BZh91AY&SY", 1000, at("vmlinuz.bz2")).unwrap_err();
        assert_eq!(error.to_string(), "`vmlinuz.bz2` is bzip2-compressed, which is not supported");
    }
}
