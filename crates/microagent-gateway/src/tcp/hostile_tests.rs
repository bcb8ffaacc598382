//! What a guest can do to the stack whose kernel does as it likes.

use super::guest::Guest;
use crate::address::GUEST;
use crate::edge::Edge;
use crate::ethernet::HEADER;
use crate::ipv4;
use crate::link::Inbox;
use crate::poll::Poll;
use crate::proxy::Proxies;
use crate::{Options, dns};
use microagent_egress::{Log, Policy, Rules};
use proptest::prelude::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use smoltcp::wire::{Ipv4Packet, TcpPacket, TcpSeqNumber};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The number of the guest's first segment. What it says from there on is [`said`].
const FIRST: i32 = i32::MAX - 1000;

/// The byte that the guest says at a place of its stream.
fn said(at: usize) -> u8 {
    (at * 7 + (at >> 8)).to_le_bytes()[0]
}

struct Bed {
    edge: Edge,
    guest: Guest,
    link: OwnedFd,
    inbox: Inbox,
    /// What the gateway's stream begins with.
    theirs: TcpSeqNumber,
    to: SocketAddrV4,
    taken: usize,
}

/// What the guest sends: where in its stream, what it acknowledges of the other, and how much it takes.
#[derive(Clone, Debug)]
struct Segment {
    at: i32,
    length: usize,
    acknowledged: i32,
    window: u16,
    flags: u8,
}

fn segment(to: SocketAddrV4, segment: &Segment, ack: TcpSeqNumber, options: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0; ipv4::HEADER + header + segment.length];
    let (ip, rest) = bytes.split_at_mut(ipv4::HEADER);
    ipv4::write_header(ip, GUEST, *to.ip(), ipv4::TCP, header + segment.length);
    for (n, byte) in (0u16..).zip(&mut rest[header..]) {
        // What is before the beginning nobody may take, whatever it is.
        *byte = usize::try_from(i64::from(segment.at) + i64::from(n)).map_or(0xee, said);
    }
    rest[20..header].copy_from_slice(options);
    rest[13] = segment.flags;
    let mut packet = TcpPacket::new_unchecked(rest);
    packet.set_src_port(1000);
    packet.set_dst_port(to.port());
    packet.set_seq_number(TcpSeqNumber(FIRST.wrapping_add(segment.at).wrapping_add(1)));
    packet.set_ack_number(ack);
    packet.set_header_len(header as u8);
    packet.set_window_len(segment.window);
    bytes
}

impl Bed {
    fn new(scale: Option<u8>, others: usize) -> Bed {
        let (ours, link) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            policy: Policy::new(Rules::default(), vec![]).unwrap(),
            log: Arc::new(Log::open(&dir.path().join("log")).unwrap()),
            resolver: dns::Resolver::with(vec![], vec![], vec![]),
            proxies: Proxies::none(),
            intercept: None,
        };
        let mut edge = Edge::new(Arc::new(ours), Poll::new().unwrap(), options).unwrap();
        let to = "192.0.2.1:80".parse().unwrap();
        let options = scale.map_or(vec![2, 4, 0xff, 0xc8], |scale| vec![2, 4, 0xff, 0xc8, 3, 3, scale, 0]);
        let first = Segment { at: -1, length: 0, acknowledged: 0, window: u16::MAX, flags: 2 };
        let syn = segment(to, &first, TcpSeqNumber(0), &options);
        let guest = Guest::accept(&mut edge, to, &syn, others).unwrap();
        let mut bed = Bed { edge, guest, link, inbox: Inbox::new(), theirs: TcpSeqNumber(0), to, taken: 0 };
        bed.turn();
        bed
    }

    /// Sends, and takes note of where the stream of the gateway begins.
    fn turn(&mut self) {
        self.guest.send(&mut self.edge);
        self.edge.out.flush().unwrap();
        while self.inbox.fill(&self.link).unwrap() {
            while let Some(frame) = self.inbox.next().unwrap() {
                let packet = Ipv4Packet::new_checked(&frame[HEADER..]).unwrap();
                let segment = TcpPacket::new_checked(packet.payload()).unwrap();
                if segment.syn() {
                    self.theirs = segment.seq_number() + 1;
                }
            }
            self.edge.out.flush().unwrap();
        }
    }

    fn receive(&mut self, sent: &Segment) {
        let ack = TcpSeqNumber(self.theirs.0.wrapping_add(sent.acknowledged));
        let bytes = segment(self.to, sent, ack, &[]);
        self.guest.receive(&mut self.edge, &bytes);
    }

    /// Takes what is there, which has to be what was said at that place.
    fn take(&mut self, most: usize) {
        let taken = self.taken;
        let count = self.guest.take(|bytes| {
            let bytes = &bytes[..bytes.len().min(most)];
            assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == said(taken + n)));
            (bytes.len(), bytes.len())
        });
        self.taken += count.unwrap_or(0);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Receive(Segment),
    /// Relative to what was taken last: what a guest would go on with.
    GoOn(usize),
    Take(usize),
    Give(usize),
    Turn,
    Wait(u64),
    Close,
    Abort,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let flags = prop_oneof![8 => Just(0x10u8), 2 => Just(0x18), 1 => Just(0x11), 1 => Just(0x14), 1 => Just(0x02), 1 => any::<u8>()];
    let near = prop_oneof![3 => -70_000i32..70_000, 3 => 0i32..600_000, 1 => any::<i32>()];
    let length = prop_oneof![Just(0usize), 1usize..100, Just(65_480), 1usize..65_480];
    let sent = (near.clone(), length, near, any::<u16>(), flags);
    let sent =
        sent.prop_map(|(at, length, acknowledged, window, flags)| Segment { at, length, acknowledged, window, flags });
    let act = prop_oneof![
        6 => sent.prop_map(Act::Receive),
        8 => (1usize..65_480).prop_map(Act::GoOn),
        3 => (1usize..300_000).prop_map(Act::Take),
        2 => (1usize..300_000).prop_map(Act::Give),
        4 => Just(Act::Turn),
        1 => (1u64..100_000).prop_map(Act::Wait),
        1 => Just(Act::Close),
        1 => Just(Act::Abort),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_guest_sends_nothing_breaks_and_nothing_is_made_up(
        acts in acts(), scale in proptest::option::of(0u8..=255), many in any::<bool>(),
    ) {
        let mut bed = Bed::new(scale, if many { usize::MAX } else { 0 });
        bed.receive(&Segment { at: 0, length: 0, acknowledged: 0, window: u16::MAX, flags: 0x10 });
        let mut next = 0;
        for act in acts {
            match act {
                Act::Receive(segment) => bed.receive(&segment),
                Act::GoOn(length) => {
                    let at = i32::try_from(next).unwrap();
                    bed.receive(&Segment { at, length, acknowledged: 0, window: u16::MAX, flags: 0x10 });
                    next += length;
                }
                Act::Take(most) => bed.take(most),
                Act::Give(count) => {
                    bed.guest.give(|place| (place.len().min(count), ()));
                }
                Act::Turn => bed.turn(),
                Act::Wait(milliseconds) => bed.edge.now += Duration::from_millis(milliseconds),
                Act::Close => bed.guest.close(),
                Act::Abort => bed.guest.abort(),
            }
            let _ = (bed.guest.deadline(&mut bed.edge), bed.guest.is_over(), bed.guest.has_finished());
        }
        bed.take(usize::MAX);
    }
}

#[test]
fn a_guest_that_does_not_heed_its_window_gains_nothing() {
    let mut bed = Bed::new(Some(7), 0);
    bed.receive(&Segment { at: 0, length: 0, acknowledged: 0, window: u16::MAX, flags: 0x10 });
    // All before anything is acknowledged: more than there is room for.
    for n in 0..12 {
        bed.receive(&Segment { at: n * 60_000, length: 60_000, acknowledged: 0, window: u16::MAX, flags: 0x10 });
    }
    while !bed.guest.said().is_empty() {
        bed.take(usize::MAX);
        bed.turn();
    }
    assert!(bed.taken > 200_000 && bed.taken < 300_000, "{}", bed.taken);
}
