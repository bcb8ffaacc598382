//! Whatever a guest asks gets an answer under the number it was asked under, that fits; whatever a server answers can be looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microagent_gateway::dns::Transport;
use microagent_gateway::fuzzing;

fuzz_target!(|input: (bool, &[u8])| {
    let (tcp, bytes) = input;
    let answer = fuzzing::dns_query(bytes, if tcp { Transport::Tcp } else { Transport::Udp });
    assert!((12..=512).contains(&answer.len()));
    assert!(answer[2] & 0x80 != 0);
    if let Some(id) = bytes.first_chunk::<2>() {
        assert_eq!(&answer[..2], id);
    }
    fuzzing::dns_reply(bytes);
});
