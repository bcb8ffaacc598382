//! Whatever a guest sends, frame after frame, its gateway lives and sends nothing but frames: ethernet, ARP, IP, UDP, DHCP, DNS, ICMP, and
//! TCP with its options, down to the questions in a connection with the resolver.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microagent_egress::Log;
use microagent_gateway::address::{GATEWAY, GATEWAY_MAC, GUEST_MAC};
use microagent_gateway::fuzzing::{Said, Wire};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;

#[derive(Arbitrary, Debug)]
enum Act<'a> {
    /// Of any kind, from the guest to the gateway.
    Frame(u16, &'a [u8]),
    /// To the gateway, or to anybody.
    Packet(Option<[u8; 4]>, u8, &'a [u8]),
    Datagram(u16, Option<u16>, &'a [u8]),
    Open(bool, &'a [u8]),
    Say {
        port: bool,
        at: i32,
        acknowledged: u16,
        window: u16,
        flags: u8,
        options: &'a [u8],
        data: &'a [u8],
    },
    /// What a guest would go on with.
    GoOn(bool, &'a [u8]),
    Wait(u16),
}

static LOG: LazyLock<(TempDir, Arc<Log>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(&dir.path().join("egress.jsonl")).unwrap());
    (dir, log)
});

fuzz_target!(|acts: Vec<Act>| {
    let mut wire = Wire::new(Arc::clone(&LOG.1));
    let mut next = [0i32; 2];
    for act in acts.iter().take(64) {
        let port = |second: bool| 1000 + u16::from(second);
        let opens =
            |port, options| Said { port, at: -1, acknowledged: 0, window: u16::MAX, flags: 2, options, data: &[] };
        match *act {
            Act::Frame(kind, bytes) => wire.frame(&[&GATEWAY_MAC[..], &GUEST_MAC, &kind.to_be_bytes(), bytes].concat()),
            Act::Packet(to, protocol, payload) => wire.packet(to.map_or(GATEWAY, Into::into), protocol, payload),
            Act::Datagram(from, to, data) => {
                let (to, length) = (to.unwrap_or(53).to_be_bytes(), (8 + data.len() as u16).to_be_bytes());
                wire.packet(GATEWAY, 17, &[&from.to_be_bytes()[..], &to, &length, &[0, 0], data].concat());
            }
            Act::Open(second, options) => {
                next[usize::from(second)] = 0;
                wire.segment(&opens(port(second), options));
            }
            Act::Say { port: second, at, acknowledged, window, flags, options, data } => {
                let acknowledged = i32::from(acknowledged);
                wire.segment(&Said { port: port(second), at, acknowledged, window, flags, options, data });
            }
            Act::GoOn(second, data) => {
                let at = &mut next[usize::from(second)];
                wire.segment(&Said { at: *at, flags: 0x18, data, ..opens(port(second), &[]) });
                *at = at.wrapping_add(data.len() as i32);
            }
            Act::Wait(_) => {}
        }
        wire.turn(if let Act::Wait(time) = act { Duration::from_millis((*time).into()) } else { Duration::ZERO });
    }
});
