//! Whatever bytes a guest sends, in whatever pieces: frames within their bounds or an end to the conversation, and messages that parse or do
//! not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microagent_protocol::{Decoder, Hello, Kind, Reply};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let mut decoder = Decoder::default();
    for chunk in bytes.chunks(usize::from(piece) + 1) {
        decoder.extend(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= frame.kind.max_payload());
                    match frame.kind {
                        Kind::Hello => drop(serde_json::from_slice::<Hello>(&frame.payload)),
                        Kind::Reply => match serde_json::from_slice(&frame.payload) {
                            Ok(Reply::Exited(exit)) if exit.is_valid() => assert!((0..256).contains(&exit.status())),
                            _ => {}
                        },
                        _ => drop(frame.credit_granted()),
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
