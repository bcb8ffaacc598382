//! Pax extended headers: records of a length, a keyword and a value that may hold any byte.

use std::collections::BTreeMap;

/// What an extended header says about the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link_path: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) sparse: Sparse,
}

/// Seconds since 1970 and the nanoseconds past them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// The `GNU.sparse.*` records of the three pax sparse formats.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Formats 0.0 and 0.1: offsets and lengths in turn.
    pub(crate) map: Vec<u64>,
    /// Whether either format's map was given, even an empty one.
    pub(crate) has_map: bool,
    /// Format 1.0: the map is at the start of the data.
    pub(crate) map_in_data: bool,
    pub(crate) real_size: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
}

impl Pax {
    /// Reads the body of an extended header.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Pax::default();
        let mut base64_xattrs = BTreeMap::new();
        for record in records(body) {
            let (keyword, value) = record?;
            if let Some(name) = keyword.strip_prefix(b"SCHILY.xattr.") {
                pax.xattrs.insert(name.to_vec(), value.to_vec());
            } else if let Some(name) = keyword.strip_prefix(b"LIBARCHIVE.xattr.") {
                base64_xattrs.insert(percent_decode(name), base64_decode(value)?);
            } else if let Some(field) = keyword.strip_prefix(b"GNU.sparse.") {
                pax.sparse.set(field, value)?;
            } else {
                // An empty value withdraws an earlier record: the header's own field stands.
                pax.set(keyword, Some(value).filter(|value| !value.is_empty()))?;
            }
        }
        // Archivers that write both forms of an attribute write the same value twice.
        for (name, value) in base64_xattrs {
            pax.xattrs.entry(name).or_insert(value);
        }
        Ok(pax)
    }

    fn set(&mut self, keyword: &[u8], value: Option<&[u8]>) -> Result<(), &'static str> {
        let number = |complaint| value.map(|value| decimal(value).ok_or(complaint)).transpose();
        match keyword {
            b"path" => self.path = value.map(<[u8]>::to_vec),
            b"linkpath" => self.link_path = value.map(<[u8]>::to_vec),
            b"size" => self.size = number("its pax `size` is not a number")?,
            b"uid" => self.uid = number("its pax `uid` is not a number")?,
            b"gid" => self.gid = number("its pax `gid` is not a number")?,
            b"mtime" => {
                let time = value.map(|value| time(value).ok_or("its pax `mtime` is not a time"));
                self.mtime = time.transpose()?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Sparse {
    fn set(&mut self, field: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "its pax sparse map is malformed";
        match field {
            b"major" => self.map_in_data = decimal(value).ok_or(BAD)? == 1,
            b"realsize" | b"size" => self.real_size = Some(decimal(value).ok_or(BAD)?),
            b"name" => self.name = Some(value.to_vec()),
            b"numblocks" => self.has_map = true,
            b"offset" | b"numbytes" => {
                self.has_map = true;
                // Pairs must alternate, or a length would be taken for an offset.
                if self.map.len().is_multiple_of(2) != (field == b"offset") {
                    return Err(BAD);
                }
                self.map.push(decimal(value).ok_or(BAD)?);
            }
            b"map" => {
                self.has_map = true;
                let numbers = value.split(|byte| *byte == b',').filter(|_| !value.is_empty());
                self.map = numbers.map(decimal).collect::<Option<_>>().ok_or(BAD)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits a body into its keywords and values by the length each record states, never by its content.
pub(crate) fn records(body: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), &'static str>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = record(rest);
        rest = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(keyword, value, _)| (keyword, value)).ok_or("its pax header is malformed"))
    })
}

fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&body[..space])?).ok()?;
    let text = body.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    Some((&text[..equals], &text[equals + 1..], &body[length..]))
}

/// Reads digits and nothing else: no sign, no blank, no overflow.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Reads a decimal time. It may be negative and have a fraction, of which nine digits count.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((text, &b""[..]), |point| (&text[..point], &text[point + 1..]));
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0;
    for place in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0'));
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                decoded.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

/// Reads base64 as the archiver that defined this record writes it: without padding, which others add.
fn base64_decode(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let digits = text.iter().rposition(|byte| *byte != b'=').map_or(&[][..], |last| &text[..=last]);
    let mut decoded = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let bits = group.iter().try_fold(0u32, |bits, digit| Some(bits << 6 | base64_digit(*digit)?));
        // One digit of a group is less than a byte.
        let bits = bits.filter(|_| group.len() > 1).ok_or("its pax extended attribute is not base64")?;
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        decoded.extend_from_slice(&bytes[1..group.len()]);
    }
    Ok(decoded)
}

fn base64_digit(digit: u8) -> Option<u32> {
    let (first, value) = match digit {
        b'A'..=b'Z' => (b'A', 0),
        b'a'..=b'z' => (b'a', 26),
        b'0'..=b'9' => (b'0', 52),
        b'+' => (b'+', 62),
        b'/' => (b'/', 63),
        _ => return None,
    };
    Some(u32::from(digit - first) + value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use microagent_testing::pax_record as write_record;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_round_trip_whatever_bytes_the_values_hold(
            pairs in prop::collection::vec(("[A-Za-z.]{1,20}", prop::collection::vec(any::<u8>(), 0..200)), 0..10),
        ) {
            let body: Vec<u8> = pairs.iter().flat_map(|(keyword, value)| write_record(keyword.as_bytes(), value)).collect();
            let read: Vec<_> = records(&body).collect::<Result<_, _>>().unwrap();
            let expected: Vec<_> = pairs.iter().map(|(keyword, value)| (keyword.as_bytes(), &value[..])).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn arbitrary_bodies_never_panic_nor_loop(body in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(records(&body).count() <= body.len());
            let _ = Pax::parse(&body);
        }

        #[test]
        fn likely_bodies_never_panic(body in "([0-9]{1,3} (path|size|mtime|GNU.sparse.map|GNU.sparse.offset|LIBARCHIVE.xattr.u%2)=[-0-9.,%=a]{0,9}\n){0,4}") {
            let _ = Pax::parse(body.as_bytes());
        }
    }

    #[test]
    fn a_newline_in_a_value_forges_no_record() {
        let body = write_record(b"SCHILY.xattr.user.a", b"x\n20 path=/etc/passwd\n");
        let pax = Pax::parse(&body).unwrap();
        assert_eq!(pax.path, None);
        assert_eq!(pax.xattrs[&b"user.a"[..]], b"x\n20 path=/etc/passwd\n");
    }

    #[test]
    fn lying_record_lengths_are_refused() {
        for body in [&b"5 a=b\n"[..], b"7 a=b\n", b"999 a=b\n", b"0 a=b\n", b" a=b\n", b"-6 a=b\n", b"6 a:b\n", b"3 a"]
        {
            assert!(Pax::parse(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn times_may_be_negative_and_fractional() {
        let time = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(time("1.5"), Some((1, 500_000_000)));
        assert_eq!(time("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time("-0.000000001"), Some((-1, 999_999_999)));
        assert_eq!(time("-315619200"), Some((-315_619_200, 0)));
        assert_eq!(time("1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time("1."), Some((1, 0)));
        for bad in ["", "-", ".5", "1.x", "+1", "99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_spellings_of_an_attribute_are_read_and_the_plain_one_wins() {
        let body = [
            write_record(b"LIBARCHIVE.xattr.user.a%20b", b"AAH/"),
            write_record(b"LIBARCHIVE.xattr.user.short", b"AA"),
            write_record(b"LIBARCHIVE.xattr.user.both", b"AAH/"),
            write_record(b"SCHILY.xattr.user.both", b"plain"),
        ]
        .concat();
        let xattrs = Pax::parse(&body).unwrap().xattrs;
        assert_eq!(xattrs[&b"user.a b"[..]], [0, 1, 0xff]);
        assert_eq!(xattrs[&b"user.short"[..]], [0]);
        assert_eq!(xattrs[&b"user.both"[..]], b"plain");
    }

    #[test]
    fn base64_is_read_with_and_without_padding_and_nothing_else_is() {
        for (text, bytes) in
            [("", &b""[..]), ("TQ", b"M"), ("TQ==", b"M"), ("TWE=", b"Ma"), ("TWFu+/8", b"Man\xfb\xff")]
        {
            assert_eq!(base64_decode(text.as_bytes()).unwrap(), bytes, "{text}");
        }
        for bad in ["A", "TWFuT", "TW F", "TQ=Q"] {
            assert!(base64_decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_value_leaves_the_header_field_in_force() {
        let body = [write_record(b"path", b"long"), write_record(b"size", b"7"), write_record(b"size", b"")].concat();
        let pax = Pax::parse(&body).unwrap();
        assert_eq!((pax.path, pax.size), (Some(b"long".to_vec()), None));
    }
}
