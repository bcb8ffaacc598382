//! The certificates of a bundle.

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Each in DER. What is none is left out: one that cannot be read would have a program of the workspace refuse all of them.
pub(super) fn certificates(bundle: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bundle);
    let blocks = text.split(BEGIN).skip(1).filter_map(|block| block.split_once(END));
    blocks.filter_map(|(block, _)| decode(block)).collect()
}

fn decode(block: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = block.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let packed = packed.strip_suffix(b"==").or(packed.strip_suffix(b"=")).unwrap_or(&packed);
    unpack(packed).filter(|der| is_whole(der))
}

/// Base64 (RFC 4648, 4) without its padding. That of a library is as large as all of this directory, in the memory of every machine.
fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut unpacked = Vec::with_capacity(packed.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for byte in packed {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            unpacked.push((bits >> count) as u8);
        }
    }
    // Less than a byte is left over, unless the end is missing.
    (count < 6).then_some(unpacked)
}

/// Whether it is one sequence, to its end (X.690, 8.1.3): of 128 bytes to 65,535, as certificates are.
fn is_whole(der: &[u8]) -> bool {
    match der {
        [0x30, 0x81, length, rest @ ..] => usize::from(*length) == rest.len(),
        [0x30, 0x82, high, low, rest @ ..] => usize::from(u16::from_be_bytes([*high, *low])) == rest.len(),
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    /// Something that looks like a certificate of `size` bytes from outside, and in PEM.
    pub(in crate::trust) fn certificate(filling: u8, size: u16) -> (Vec<u8>, String) {
        let mut der = vec![0x30, 0x82];
        der.extend((size - 4).to_be_bytes());
        der.resize(usize::from(size), filling);
        let packed = STANDARD.encode(&der);
        let lines: Vec<&str> = packed.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        (der, format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")))
    }

    #[test]
    fn the_certificates_of_a_bundle_are_found_and_nothing_else() {
        let ((one, first), (two, second)) = (certificate(1, 1000), certificate(2, 1001));
        let windows = second.replace('\n', "\r\n");
        let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let short = first.replace("AQEB\n", "\n");
        let bundle = format!("# a remark\n{first}{key}{BEGIN}\nnot base64 !\n{END}\n{short}{windows}{BEGIN}\nMIID");
        assert_eq!(certificates(bundle.as_bytes()), [one, two]);
        assert!(certificates(b"\xff\xfe").is_empty());
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let packed = STANDARD.encode(&bytes);
            prop_assert_eq!(unpack(packed.trim_end_matches('=').as_bytes()), Some(bytes));
        }

        #[test]
        fn anything_is_survived(text in any::<Vec<u8>>()) {
            certificates(&text);
            certificates(&[BEGIN.as_bytes(), &text, END.as_bytes()].concat());
        }
    }
}
