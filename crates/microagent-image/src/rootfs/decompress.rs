//! A layer as served -> a plain tar file, its diff id and its size, in one streaming pass.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::MultiGzDecoder;

use super::{Error, Limits, limits};
use crate::digest::{Algorithm, Digester};

/// Large enough that a system call costs nothing beside the decoding, small enough to stay in the second-level cache.
const BUFFER: usize = 256 << 10;

/// Runs of zeroes are left out in units of this size: the block size of the filesystems that will hold the file.
const BLOCK: usize = 4096;

/// How a layer was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// gzip, of one member or many.
    Gzip,
    /// Zstandard, of one frame or many.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// What [`decompress`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed bytes, `sha256:` and 64 hexadecimal digits: what an image config calls a diff id.
    pub diff_id: String,
    /// Uncompressed bytes.
    pub size: u64,
    /// How the input was compressed, by its first bytes.
    pub compression: Compression,
}

/// Unpacks a layer from `input` into the empty file `output`, leaving out blocks of zeroes where the filesystem can.
///
/// The compression is recognised by content: media types of real registries are wrong often enough. Bytes are written by
/// position, so the file's cursor does not move.
///
/// A failure of `input` itself comes back as [`Error::ReadLayer`] with the very error it returned.
pub fn decompress(input: impl Read, output: &File, limits: &Limits) -> Result<Unpacked, Error> {
    let failed = Cell::new(false);
    let mut input = BufReader::with_capacity(BUFFER, Watched { input, failed: &failed });
    let (compression, head) = detect(&mut input)?;
    let input = io::Cursor::new(head).chain(input);
    let mut sink = Sink { output, size: 0, digester: Digester::new(Algorithm::Sha256), limit: limits.layer_bytes };
    let drained = match compression {
        Compression::None => sink.drain(input),
        Compression::Gzip => sink.drain(MultiGzDecoder::new(input)),
        Compression::Zstd => {
            zstd::Decoder::with_buffer(input).map_err(Drain::Read).and_then(|decoder| sink.drain(decoder))
        }
    };
    drained.map_err(|error| match error {
        Drain::Other(error) => error,
        Drain::Read(source) if failed.get() || compression == Compression::None => Error::ReadLayer(source),
        Drain::Read(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Error::TruncatedCompression { compression, unpacked: sink.size }
        }
        Drain::Read(source) => Error::CorruptCompression { compression, unpacked: sink.size, source },
    })?;
    output.set_len(sink.size).map_err(write_failed)?;
    Ok(Unpacked { diff_id: sink.digester.finish().to_string(), size: sink.size, compression })
}

/// Reads the bytes that tell a format and returns them with it.
pub(super) fn detect(input: &mut impl BufRead) -> Result<(Compression, Vec<u8>), Error> {
    const LONGEST_MAGIC: u64 = 6;
    let mut head = Vec::new();
    input.take(LONGEST_MAGIC).read_to_end(&mut head).map_err(Error::ReadLayer)?;
    let compression = match head.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame of data, or one of the sixteen kinds of frame a reader skips.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(Error::UnsupportedCompression { found: "xz" }),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A'] => return Err(Error::UnsupportedCompression { found: "bzip2" }),
        [0x04, 0x22, 0x4d, 0x18, ..] => return Err(Error::UnsupportedCompression { found: "lz4" }),
        _ => Compression::None,
    };
    Ok((compression, head))
}

fn write_failed(source: io::Error) -> Error {
    Error::Write { what: "the unpacked layer", source }
}

/// Remembers whether an error came from the input or from a decoder reading it: both are `io::Error` by then.
struct Watched<'a, R> {
    input: R,
    failed: &'a Cell<bool>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).inspect_err(|error| {
            self.failed.set(error.kind() != io::ErrorKind::Interrupted);
        })
    }
}

enum Drain {
    Read(io::Error),
    Other(Error),
}

struct Sink<'a> {
    output: &'a File,
    size: u64,
    digester: Digester,
    limit: u64,
}

impl Sink<'_> {
    fn drain(&mut self, mut input: impl Read) -> Result<(), Drain> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let filled = fill(&mut input, &mut buffer).map_err(Drain::Read)?;
            self.put(&buffer[..filled]).map_err(Drain::Other)?;
            if filled < buffer.len() {
                return Ok(());
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        limits::check("layer_bytes", self.size + bytes.len() as u64, self.limit)?;
        self.digester.update(bytes);
        let mut start = 0;
        while start < bytes.len() {
            let zero = is_zero(block(bytes, start));
            let mut end = start;
            while end < bytes.len() && is_zero(block(bytes, end)) == zero {
                end = (end + BLOCK).min(bytes.len());
            }
            if !zero {
                self.output.write_all_at(&bytes[start..end], self.size + start as u64).map_err(write_failed)?;
            }
            start = end;
        }
        self.size += bytes.len() as u64;
        Ok(())
    }
}

fn block(bytes: &[u8], start: usize) -> &[u8] {
    &bytes[start..bytes.len().min(start + BLOCK)]
}

fn is_zero(block: &[u8]) -> bool {
    const ZEROES: [u8; BLOCK] = [0; BLOCK];
    *block == ZEROES[..block.len()]
}

/// Reads until `buffer` is full or the input ends, so that blocks stay aligned with the file.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::MetadataExt;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(input: &[u8]) -> Result<(Unpacked, Vec<u8>), Error> {
        let mut output = tempfile::tempfile().unwrap();
        let unpacked = decompress(input, &output, &Limits::default())?;
        let mut bytes = Vec::new();
        output.rewind().unwrap();
        output.read_to_end(&mut bytes).unwrap();
        Ok((unpacked, bytes))
    }

    fn sha256(bytes: &[u8]) -> String {
        crate::digest::Digest::of(bytes).to_string()
    }

    proptest! {
        #[test]
        fn every_compression_gives_back_the_bytes_and_their_digest(
            parts in prop::collection::vec((any::<u8>(), 0usize..20_000), 0..8),
        ) {
            let plain: Vec<u8> = parts.iter().flat_map(|(byte, count)| vec![*byte; *count]).collect();
            // A plain input must not look compressed: start it as a tar header would.
            let plain = [b"name".as_slice(), &plain].concat();
            let (head, tail) = plain.split_at(plain.len() / 2);
            let inputs = [
                (Compression::None, plain.clone()),
                (Compression::Gzip, gzip(&plain)),
                (Compression::Gzip, [gzip(head), gzip(tail)].concat()),
                (Compression::Zstd, zstd::encode_all(&plain[..], 1).unwrap()),
                (Compression::Zstd, [zstd::encode_all(head, 1).unwrap(), zstd::encode_all(tail, 1).unwrap()].concat()),
            ];
            for (compression, input) in inputs {
                let (unpacked, bytes) = unpack(&input).unwrap();
                prop_assert_eq!(&bytes, &plain);
                prop_assert_eq!(unpacked, Unpacked { diff_id: sha256(&plain), size: plain.len() as u64, compression });
            }
        }

        #[test]
        fn arbitrary_input_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000), magic in 0usize..4) {
            let magic: &[u8] = [b"".as_slice(), &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18]][magic];
            let _ = unpack(&[magic, &bytes].concat());
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_refused_as_truncated() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        for input in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
            for cut in [7, 20, input.len() / 2, input.len() - 1] {
                let error = unpack(&input[..cut]).unwrap_err();
                assert!(matches!(error, Error::TruncatedCompression { .. }), "cut at {cut}: {error:?}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_as_corrupt() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        let mut input = gzip(&plain);
        let checksum = input.len() - 6;
        input[checksum] ^= 1;
        let error = unpack(&input).unwrap_err();
        assert!(matches!(error, Error::CorruptCompression { compression: Compression::Gzip, .. }), "{error:?}");
    }

    #[test]
    fn a_failing_input_is_told_apart_from_a_damaged_one() {
        struct Cut;
        impl Read for Cut {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let compressed = gzip(&vec![1; 100_000]);
        let input = compressed[..40].chain(Cut);
        let error = decompress(input, &tempfile::tempfile().unwrap(), &Limits::default()).unwrap_err();
        assert!(
            matches!(&error, Error::ReadLayer(source) if source.kind() == io::ErrorKind::ConnectionReset),
            "{error:?}"
        );
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_written_out() {
        let limits = Limits { layer_bytes: 1 << 20, ..Limits::default() };
        let output = tempfile::tempfile().unwrap();
        let error = decompress(&gzip(&vec![7; 8 << 20])[..], &output, &limits).unwrap_err();
        assert!(matches!(error, Error::Limit { what: "layer_bytes", limit: 1_048_576, .. }), "{error:?}");
        assert!(output.metadata().unwrap().len() <= 1 << 20);
    }

    #[test]
    fn zeroes_take_no_space_on_disk() {
        let mut plain = vec![0; 16 << 20];
        plain[0] = b'x';
        let output = tempfile::tempfile().unwrap();
        decompress(&gzip(&plain)[..], &output, &Limits::default()).unwrap();
        let metadata = output.metadata().unwrap();
        assert_eq!(metadata.len(), 16 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn formats_oci_does_not_define_are_named() {
        let error = unpack(b"\xfd7zXZ\0rest").unwrap_err();
        assert!(error.to_string().contains("xz"), "{error}");
    }
}
