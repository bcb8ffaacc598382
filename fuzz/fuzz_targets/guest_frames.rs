//! Whatever frame a guest sends can be looked at, all the way down.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microagent_gateway::address::{GATEWAY_MAC, GUEST, GUEST_MAC};
use microagent_gateway::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::frame(bytes);
    // And one that gets as far as that: from the guest, with an IPv4 packet of it.
    let mut packet = bytes.to_vec();
    if packet.len() >= 20 {
        packet[0] = 0x40 | packet[0] & 0x0f;
        packet[6] &= 0x40;
        packet[7] = 0;
        packet[12..16].copy_from_slice(&GUEST.octets());
    }
    fuzzing::frame(&[&GATEWAY_MAC[..], &GUEST_MAC, &[8, 0], &packet].concat());
});
