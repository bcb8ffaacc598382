//! One 512-byte tar header: where its fields are and how their numbers are written.

use std::ops::Range;

/// Tar's unit: headers and padded data are multiples of it.
pub(crate) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE_FLAG: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;

const GNU_SPARSE_MAP: Range<usize> = 386..482;
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;

const EXTENSION_SPARSE_MAP: Range<usize> = 0..504;
const EXTENSION_IS_EXTENDED: usize = 504;

/// A header block whose checksum has been verified.
pub(crate) struct Header<'b>(&'b [u8; BLOCK]);

impl<'b> Header<'b> {
    /// Takes `block` as a header if its checksum says it is one.
    pub(crate) fn parse(block: &'b [u8; BLOCK]) -> Result<Self, &'static str> {
        let stored = number(&block[CHECKSUM]).ok_or("its checksum field is not a number")?;
        // Historic writers summed signed bytes; both sums are accepted, as every reader does.
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (index, byte) in block.iter().enumerate() {
            let byte = if CHECKSUM.contains(&index) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stored != unsigned && stored != signed {
            return Err("its checksum does not match");
        }
        Ok(Header(block))
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.0[TYPE_FLAG]
    }

    /// The name, joined with the prefix that POSIX (but not GNU) headers have.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.0[NAME]);
        let prefix = if self.0[MAGIC] == *b"ustar\0" { until_nul(&self.0[PREFIX]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(crate) fn link_name(&self) -> &'b [u8] {
        until_nul(&self.0[LINK_NAME])
    }

    pub(crate) fn mode(&self) -> Option<i64> {
        number(&self.0[MODE])
    }

    pub(crate) fn uid(&self) -> Option<i64> {
        number(&self.0[UID])
    }

    pub(crate) fn gid(&self) -> Option<i64> {
        number(&self.0[GID])
    }

    pub(crate) fn size(&self) -> Option<i64> {
        number(&self.0[SIZE])
    }

    pub(crate) fn mtime(&self) -> Option<i64> {
        number(&self.0[MTIME])
    }

    pub(crate) fn device(&self) -> Option<(i64, i64)> {
        Some((number(&self.0[DEVICE_MAJOR])?, number(&self.0[DEVICE_MINOR])?))
    }

    /// The apparent size of an old GNU sparse file.
    pub(crate) fn gnu_real_size(&self) -> Option<i64> {
        number(&self.0[GNU_REAL_SIZE])
    }

    /// The map of an old GNU sparse file as far as the header holds it, and whether extension blocks follow.
    pub(crate) fn gnu_sparse(&self) -> (&'b [u8], bool) {
        (&self.0[GNU_SPARSE_MAP], self.0[GNU_IS_EXTENDED] != 0)
    }
}

/// The part of an old GNU sparse map in an extension block, and whether another block follows.
pub(crate) fn gnu_sparse_extension(block: &[u8; BLOCK]) -> (&[u8], bool) {
    (&block[EXTENSION_SPARSE_MAP], block[EXTENSION_IS_EXTENDED] != 0)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a numeric field: octal text, or GNU's big-endian two's complement marked by the top bit. A blank field is 0.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => binary(*first, rest),
        field => octal(field),
    }
}

fn binary(first: u8, rest: &[u8]) -> Option<i64> {
    // The marker is the top bit; the bit below it is the sign, stretched over the marker.
    let first = if first & 0x40 != 0 { first } else { first & 0x7f };
    let mut value = i128::from(first.cast_signed());
    for byte in rest {
        value = (value << 8) | i128::from(*byte);
    }
    i64::try_from(value).ok()
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_padding).unwrap_or(digits.len());
    if !digits[end..].iter().all(is_padding) {
        return None;
    }
    digits[..end].iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;
    use proptest::prelude::*;

    #[test]
    fn octal_fields_allow_padding_on_both_sides_and_nothing_else() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77_777_777));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"644 7 \0\0"), None);
        assert_eq!(number(b"-1\0\0\0\0\0\0"), None);
        assert_eq!(number(b"0009\0\0\0\0"), None);
    }

    #[test]
    fn base_256_fields_hold_signed_numbers_and_refuse_what_does_not_fit() {
        let field = |value: i128| -> [u8; 12] {
            let mut field: [u8; 12] = value.to_be_bytes()[4..].try_into().unwrap();
            field[0] |= 0x80;
            field
        };
        for value in [0, 1, -1, 1 << 40, -(1 << 40), i64::MAX, i64::MIN] {
            assert_eq!(number(&field(i128::from(value))), Some(value));
        }
        assert_eq!(number(&field(i128::from(i64::MAX) + 1)), None);
        assert_eq!(number(&field(i128::from(i64::MIN) - 1)), None);
    }

    proptest! {
        #[test]
        fn numbers_never_panic(field in prop::collection::vec(any::<u8>(), 0..13)) {
            let _ = number(&field);
        }
    }
}
