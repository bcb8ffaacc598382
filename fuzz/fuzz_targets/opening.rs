//! Whatever a connection opens with, in whatever pieces: once it is told what it is, more bytes do not change it, and a name is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microagent_gateway::{Sniffed, settle, sniff};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let step = usize::from(piece) + 1;
    let mut decided = Sniffed::More;
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        let sniffed = sniff(&bytes[..end]);
        assert!(settle(&bytes[..end]) != Sniffed::More);
        if decided == Sniffed::More {
            decided = sniffed;
        } else {
            assert_eq!(sniffed, decided);
        }
    }
    if let Sniffed::Tls { name: Some(name), .. } | Sniffed::Http { host: Some(name) } = decided {
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{name}");
    }
});
